//! Why an image cannot be decoded.

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its format is not JPEG, PNG or WebP, or a rare variant of them.
    Unsupported,
    /// It is incomplete or contradicts itself.
    Damaged,
    /// It needs more memory than is allowed.
    TooLarge,
}

/// Why an image cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// What is wrong.
    pub fault: Fault,
    /// What is wrong and what to do, for the person who submitted the image.
    pub message: String,
}

impl DecodeError {
    pub(crate) fn new(fault: Fault, message: impl Into<String>) -> Self {
        Self { fault, message: message.into() }
    }
}

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
    /// Creates an error. A library's message in it may have line breaks, and characters of the file.
    pub(crate) fn new(fault: Fault, message: impl AsRef<str>) -> Self {
        let message = message.as_ref().trim_end().replace(char::is_control, " ");
        Self { fault, message }
    }
}

//! What is counted.

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A job that a client of this process has submitted.
    Upload,
    /// A reply to a job of this process.
    Answer,
    /// A reply without a result, in addition to [`Self::Answer`].
    Failure,
    /// A job that was refused because there was no room for it.
    Refusal,
    /// A job that was given up and is kept as a dead letter.
    DeadLetter,
}

/// The number of counts.
pub(super) const COUNTS: usize = 5;

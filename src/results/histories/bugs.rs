//! Faults that the histories must catch.

/// A fault that is put into the code on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// A job is stored as pending before it is sent.
    PendingBeforeSend,
    /// At the deadline, a job is stored as pending although it is not durable.
    PendingWithoutFlush,
    /// Nobody stores the failure of a job that was given up.
    DeadLettersAreDropped,
    /// The failure of a job that was given up is stored before its dead letter.
    FailureBeforeDeadLetter,
    /// DELETE leaves no tombstone.
    NoTombstone,
    /// Nothing looks for orphans when the process of an embedded queue starts again.
    NoSweep,
    /// Results are put without a condition.
    UnconditionalPuts,
    /// A worker deletes a job when it receives it.
    DeletedWhenReceived,
    /// At its deadline, a job of which nothing is kept is stored as pending.
    PendingEnrolment,
    /// A job that is done again replaces its answer.
    AnsweredAgain,
}

impl Bug {
    /// The bugs, each with what must be found.
    pub const ALL: [(Self, &str); 11] = [
        (Self::PendingBeforeSend, "pending for ever"),
        (Self::PendingWithoutFlush, "pending for ever"),
        (Self::DeadLettersAreDropped, "pending for ever"),
        (Self::FailureBeforeDeadLetter, "left after its deletion"),
        (Self::NoTombstone, "back after its deletion"),
        (Self::NoTombstone, "pending for ever"), // a retry is taken for a duplicate of the job that was done
        (Self::NoSweep, "left after its deletion"),
        (Self::UnconditionalPuts, "back after its deletion"),
        (Self::DeletedWhenReceived, "pending for ever"),
        (Self::PendingEnrolment, "pending for ever"),
        (Self::AnsweredAgain, "answered twice"),
    ];
}

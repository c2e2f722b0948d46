//! The life of a stored result as a state machine: which step may change what is stored of a job, and to what.
//!
//! | step \ stored | nothing | pending | failed | done | deleted |
//! |---|---|---|---|---|---|
//! | promise | pending | | | | |
//! | fail | failed | failed | failed | | |
//! | complete | done | done | done | | |
//! | delete | deleted | refused | deleted | deleted | |
//!
//! An empty cell leaves what is stored as it is. So a result only moves forward, in the order of the columns: a job that
//! runs again neither takes a result back, nor answers differently what was done, nor restores a deleted one, and a
//! deletion is final. Every process changes results through this machine, by conditional puts, in any order and any number
//! of times.

use super::job_result::Status;

/// A step in the life of a job that may change what is stored of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A client is promised a result.
    Promise,
    /// The job has ended without an output, or will not be tried again.
    Fail,
    /// The job has an output.
    Complete,
    /// A client deletes the result.
    Delete,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Store this status, unless what is stored has changed since it was read.
    To(Status),
    /// Leave what is stored as it is.
    Keep,
    /// The step is not allowed now.
    Refuse,
}

/// Returns what `step` does to a job of which `stored` is stored.
pub(super) fn change(stored: Option<Status>, step: Step) -> Change {
    let to = match step {
        Step::Promise => Status::Pending,
        Step::Fail => Status::Failed,
        Step::Complete => Status::Done,
        Step::Delete => Status::Deleted,
    };
    match (step, stored) {
        (Step::Delete, Some(Status::Pending)) => Change::Refuse,
        (Step::Promise, Some(_)) | (_, Some(Status::Deleted)) => Change::Keep,
        (Step::Complete, Some(Status::Done)) => Change::Keep,
        (_, Some(stored)) if stored > to => Change::Keep,
        _ => Change::To(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: [Option<Status>; 5] =
        [None, Some(Status::Pending), Some(Status::Failed), Some(Status::Done), Some(Status::Deleted)];

    #[test]
    fn steps_change_results_as_the_table_says() {
        use Change::{Keep, Refuse, To};
        let table = [
            (Step::Promise, [To(Status::Pending), Keep, Keep, Keep, Keep]),
            (Step::Fail, [To(Status::Failed), To(Status::Failed), To(Status::Failed), Keep, Keep]),
            (Step::Complete, [To(Status::Done), To(Status::Done), To(Status::Done), Keep, Keep]),
            (Step::Delete, [To(Status::Deleted), Refuse, To(Status::Deleted), To(Status::Deleted), Keep]),
        ];
        for (step, changes) in table {
            assert_eq!(STORED.map(|stored| change(stored, step)), changes, "{step:?}");
        }
    }

    #[test]
    fn a_result_only_moves_forward() {
        for stored in STORED {
            for step in [Step::Promise, Step::Fail, Step::Complete, Step::Delete] {
                if let Change::To(status) = change(stored, step) {
                    assert!(Some(status) >= stored, "{stored:?} {step:?}");
                }
            }
        }
    }
}

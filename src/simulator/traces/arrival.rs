//! An arrival of a trace.

use std::time::Duration;

use super::super::Time;

/// Maximum number of arrivals in a trace.
pub const MAX_ARRIVALS: usize = 1_000_000;

/// A job's index in its trace.
pub type JobIndex = usize;

/// When a job arrives, and how long it takes on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Time since the start of the trace.
    pub at: Time,
    /// Time on a thread.
    pub service: Duration,
}

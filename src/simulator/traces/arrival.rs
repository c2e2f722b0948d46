//! An arrival of a trace.

use std::time::Duration;

use super::super::Time;

/// Maximum number of arrivals in a trace.
pub const MAX_ARRIVALS: usize = 1_000_000;

/// A job's index in its trace.
pub type JobIndex = usize;

/// The arrival of a job since the start of the trace, and the job's time on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub at: Time,
    pub service: Duration,
}

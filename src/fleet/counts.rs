//! Instances by state.

use serde::{Deserialize, Serialize};

/// Number of instances in each of EC2's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub pending: usize,
    pub running: usize,
    pub stopping: usize,
    pub stopped: usize,
    pub shutting_down: usize,
    pub terminated: usize,
}

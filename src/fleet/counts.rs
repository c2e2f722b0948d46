//! Instances by state.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Number of instances in each of EC2's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// In state pending.
    pub pending: usize,
    /// In state running.
    pub running: usize,
    /// In state stopping.
    pub stopping: usize,
    /// In state stopped.
    pub stopped: usize,
    /// In state shutting-down.
    pub shutting_down: usize,
    /// In state terminated.
    pub terminated: usize,
}

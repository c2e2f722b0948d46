//! The times that policies plan with.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times learned from observations; before there are any, the configured priors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnedTimes {
    /// From the launch of a new instance until it runs.
    pub boot_cold: Duration,
    /// From the start of a stopped instance until it runs.
    pub boot_warm: Duration,
    /// The time of one job on one worker thread.
    pub service: Duration,
}

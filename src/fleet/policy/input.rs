//! The input of a policy.

use std::time::Duration;

use crate::learned_times::LearnedTimes;

/// The input of a policy, as the core sees it at the time of the decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyInput {
    /// Number of jobs visible, in flight and delayed, or of uploads that wait in this process if that is larger.
    pub demand: u64,
    /// The lowest demand of the last `fleet.up_delay`.
    pub low_demand: u64,
    /// The highest demand of the last `fleet.down_delay`.
    pub high_demand: u64,
    /// The target before this decision.
    pub previous: usize,
    /// The maximum number of instances.
    pub cap: usize,
    /// Running instances.
    pub running: usize,
    /// Booting instances (pending, or requested and not seen): the time until they run, and their number. Only set for
    /// the policy that uses it.
    pub booting: Vec<(Duration, usize)>,
    /// Stopped instances that can be started.
    pub startable: usize,
    /// What the learned thresholds want, with the policy that learns them.
    pub adaptive: usize,
    /// The learned times.
    pub learned: LearnedTimes,
    /// Time since the Unix epoch.
    pub clock: Duration,
}

/// Converts a number of instances, saturating.
pub(super) fn saturating(instances: u64) -> usize {
    usize::try_from(instances).unwrap_or(usize::MAX)
}

//! The input that all phases share.

use std::time::Duration;

use super::{rules::FleetRules, timestamp::Timestamp};

/// What a step has determined before the phases decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    pub now: Timestamp,
    pub rules: &'a FleetRules,
    /// When the latest description was requested.
    pub described_as_of: Timestamp,
    /// Whether that description is sure to show everything that earlier controller epochs requested.
    pub shows_earlier_epochs: bool,
    /// Instances wanted.
    pub target: usize,
    /// Longest time that an idle worker waits for a job before it stops.
    pub idle_stop: Duration,
    /// Stopped instances that a sweep keeps.
    pub keep_stopped: usize,
    /// Instances allowed.
    pub cap: usize,
}

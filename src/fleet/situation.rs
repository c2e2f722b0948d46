//! The input that all phases share.

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
    /// Instances allowed.
    pub cap: usize,
}

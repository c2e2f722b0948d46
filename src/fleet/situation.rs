//! What every phase may read.

use super::{rules::FleetRules, timestamp::Timestamp};

/// What a step has established before the phases decide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    pub now: Timestamp,
    pub rules: &'a FleetRules,
    /// When the call for the latest description was made.
    pub described_as_of: Timestamp,
    /// Whether that description shows whatever an earlier controller epoch requested.
    pub shows_earlier_epochs: bool,
    /// Instances wanted.
    pub target: usize,
}

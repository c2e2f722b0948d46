//! Descriptions of the cluster's instances: when to call for them, and what they prove.

use std::time::Duration;

use super::{action::Action, calls::PeriodicRead, rules::FleetRules, step::Step, timestamp::Timestamp};

/// Describes the instances periodically. See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptions {
    call: PeriodicRead,
    /// Number of the latest call.
    generation: u64,
    /// When the call for the last description that was taken in was made.
    as_of: Option<Timestamp>,
}

impl Descriptions {
    /// Returns when the call for the latest description was made: it shows nothing older than `describe_lag` before that.
    /// `None` before the first description.
    pub fn as_of(&self) -> Option<Timestamp> {
        self.as_of
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether the latest description is sure to show whatever an earlier controller epoch requested.
    pub fn show_earlier_epochs(&self, describe_lag: Duration) -> bool {
        self.as_of.is_some_and(|as_of| as_of >= Timestamp::START + describe_lag)
    }

    /// Describes as soon as possible.
    pub fn hurry(&mut self, now: Timestamp) {
        self.call.hurry(now);
    }

    /// Takes in that call `generation` was answered. Returns when it was made, or `None` for an answer that a newer call
    /// has overtaken.
    pub fn answered(&mut self, generation: u64) -> Option<Timestamp> {
        if generation == self.generation { self.call.answered() } else { None }
    }

    /// Takes in that a description called for at `as_of` has been observed.
    pub fn observed(&mut self, as_of: Timestamp) {
        self.as_of = Some(as_of);
    }

    /// Describes when that is due.
    pub fn decide(&mut self, now: Timestamp, rules: &FleetRules) -> Step {
        let mut step = Step::default();
        if self.call.ready(now) {
            self.call.call(now, Self::interval(now, rules));
            self.generation += 1;
            step.actions.push(Action::Describe { generation: self.generation });
        }
        step.wake(now, self.call.next());
        step
    }

    /// The first launch waits for a description that shows what earlier epochs requested, so that one is called for as soon
    /// as it can.
    fn interval(now: Timestamp, rules: &FleetRules) -> Duration {
        let left = (Timestamp::START + rules.describe_lag).saturating_since(now);
        if left.is_zero() { rules.describe_every } else { left.min(rules.describe_every) }
    }
}

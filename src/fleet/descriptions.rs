//! Descriptions of the cluster's instances: when to request them, and what they prove.

use std::time::Duration;

use super::{action::Action, calls::PeriodicRead, rules::FleetRules, step::Step, timestamp::Timestamp};

/// Describes the instances periodically.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Descriptions {
    call: PeriodicRead,
    /// Number of the latest call.
    generation: u64,
    /// When the latest description was requested.
    as_of: Option<Timestamp>,
}

impl Descriptions {
    /// Returns when the latest description was requested: it shows no state older than `describe_lag` before that.
    /// `None` before the first description.
    pub fn as_of(&self) -> Option<Timestamp> {
        self.as_of
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether the latest description is sure to show everything that earlier controller epochs requested.
    pub fn show_earlier_epochs(&self, describe_lag: Duration) -> bool {
        self.as_of.is_some_and(|as_of| as_of >= Timestamp::START + describe_lag)
    }

    /// Makes the next description due now.
    pub fn hurry(&mut self, now: Timestamp) {
        self.call.hurry(now);
    }

    /// Records that call `generation` was answered. Returns when it was made, or `None` if a newer call has overtaken
    /// it.
    pub fn answered(&mut self, generation: u64) -> Option<Timestamp> {
        if generation == self.generation { self.call.answered() } else { None }
    }

    /// Records that a description requested at `as_of` has been observed.
    pub fn observed(&mut self, as_of: Timestamp) {
        self.as_of = Some(as_of);
    }

    /// Describes the instances when a description is due.
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

    /// Returns the time until the next description. The first launch waits for a description that shows everything that
    /// earlier epochs requested, so that description is requested as soon as possible.
    fn interval(now: Timestamp, rules: &FleetRules) -> Duration {
        let left = (Timestamp::START + rules.describe_lag).saturating_since(now);
        if left.is_zero() { rules.describe_every } else { left.min(rules.describe_every) }
    }
}

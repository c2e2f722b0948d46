//! The result of a decision: actions, and when to decide again.

use super::{action::Action, timestamp::Timestamp};

/// The result of a step of the core, or of one of its phases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Calls to make now. They may run concurrently.
    pub actions: Vec<Action>,
    /// When the core needs an [`Event::Tick`](super::Event::Tick) if no other event arrives earlier; always later than
    /// the step. Waiting for the answer to a call needs no wake-up, because the answer is an event.
    pub wake_at: Option<Timestamp>,
}

impl Step {
    /// Requests a wake-up at `at`, if that is later than `now`.
    pub(super) fn wake(&mut self, now: Timestamp, at: Timestamp) {
        if at > now {
            self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Adds the result of another phase.
    pub(super) fn merge(&mut self, other: Self) {
        self.actions.extend(other.actions);
        self.wake_at = self.wake_at.into_iter().chain(other.wake_at).min();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_wake_up_after_now_wins() {
        let at = |seconds| Timestamp::new(Duration::from_secs(seconds));
        let mut step = Step::default();
        step.wake(at(5), at(5));
        step.wake(at(5), at(3));
        assert_eq!(step.wake_at, None);
        step.wake(at(5), at(9));
        step.wake(at(5), at(7));
        step.wake(at(5), at(8));
        assert_eq!(step.wake_at, Some(at(7)));

        let other = Step { actions: vec![Action::ReadDepth], wake_at: Some(at(6)) };
        step.merge(other);
        step.merge(Step::default());
        assert_eq!(step, Step { actions: vec![Action::ReadDepth], wake_at: Some(at(6)) });
    }
}

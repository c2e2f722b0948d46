//! The demand: how many jobs there are now, and have been recently.

use std::{collections::VecDeque, time::Duration};

use super::{
    action::Action,
    calls::PeriodicRead,
    decision_log::DecisionLog,
    depth::Depth,
    rules::{FleetRules, Policy},
    step::Step,
    timestamp::Timestamp,
};
use crate::CloudResult;

/// How long a sent message may be missing from the queue's counts: SQS's counts are "approximate" and lag by a few
/// seconds. A reading that began within this time after an upload does not contradict the upload.
const COUNT_LAG: Duration = Duration::from_secs(5);

/// Returns whether the fleet is told that the number of waiting uploads has fallen to `waiting`, if it was told
/// `hinted` last: when it has halved. Otherwise it would take completed uploads for demand for several seconds. The end
/// of `n` uploads takes at most log2(n) + 1 hints.
pub fn fall_is_hinted(hinted: u64, waiting: u64) -> bool {
    hinted > 0 && waiting <= hinted / 2
}

/// The extreme of a quantity over the last `window`, in amortized constant time per change: values that are beaten by a
/// newer one are dropped (a monotonic queue).
#[derive(Clone, Debug)]
struct Extreme {
    window: Duration,
    /// Returns whether the first value beats the second.
    beats: fn(u64, u64) -> bool,
    /// Earlier values that may still be the extreme, each with the time at which it was replaced.
    replaced: VecDeque<(Timestamp, u64)>,
    current: u64,
}

impl Extreme {
    fn new(window: Duration, beats: fn(u64, u64) -> bool) -> Self {
        Self { window, beats, replaced: VecDeque::new(), current: 0 }
    }

    fn set(&mut self, now: Timestamp, value: u64) {
        if value == self.current {
            return;
        }
        self.replaced.push_back((now, self.current));
        while self.replaced.back().is_some_and(|(_, old)| !(self.beats)(*old, value)) {
            self.replaced.pop_back();
        }
        self.current = value;
    }

    /// Drops values that were replaced before the window began.
    fn expire(&mut self, now: Timestamp) {
        while self.changes_at().is_some_and(|at| at <= now) {
            self.replaced.pop_front();
        }
    }

    fn get(&self) -> u64 {
        self.replaced.front().map_or(self.current, |(_, value)| *value)
    }

    /// Returns when the extreme changes if the quantity stays the same.
    fn changes_at(&self) -> Option<Timestamp> {
        self.replaced.front().map(|(at, _)| *at + self.window)
    }
}

/// Reads the queue's depth and combines it with the uploads that wait in this process.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    call: PeriodicRead,
    depth: Depth,
    /// When the call that returned `depth` was made.
    depth_as_of: Timestamp,
    hint: Option<(Timestamp, u64)>,
    low: Extreme,
    high: Extreme,
    /// The time since which every reading of the queue has shown visible jobs.
    backlog_since: Option<Timestamp>,
    /// The time since which every reading of the queue has shown no jobs.
    empty_since: Option<Timestamp>,
}

impl Demand {
    pub fn new(up_delay: Duration, down_delay: Duration) -> Self {
        Self {
            call: PeriodicRead::default(),
            depth: Depth::default(),
            depth_as_of: Timestamp::START,
            hint: None,
            low: Extreme::new(up_delay, |old, new| old < new),
            high: Extreme::new(down_delay, |old, new| old > new),
            backlog_since: None,
            empty_since: None,
        }
    }

    /// Returns the queue's depth as last read.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Returns when the call that returned the depth was made.
    pub fn depth_as_of(&self) -> Timestamp {
        self.depth_as_of
    }

    pub fn backlog_since(&self) -> Option<Timestamp> {
        self.backlog_since
    }

    pub fn empty_since(&self) -> Option<Timestamp> {
        self.empty_since
    }

    /// Returns the number of uploads that wait in this process, if the depth may not include them yet.
    pub fn hint(&self) -> u64 {
        self.hint.filter(|(at, _)| *at + COUNT_LAG >= self.depth_as_of).map_or(0, |(_, waiting)| waiting)
    }

    /// Returns the number of jobs known to exist.
    pub fn jobs(&self) -> u64 {
        self.depth.total().max(self.hint())
    }

    /// Returns the lowest demand of the last `up_delay` and the highest of the last `down_delay`, as of the last
    /// decision.
    pub fn extremes(&self) -> (u64, u64) {
        (self.low.get(), self.high.get())
    }

    /// Records the number of uploads that wait in this process.
    pub fn hinted(&mut self, now: Timestamp, waiting: u64) {
        self.hint = Some((now, waiting));
        self.update_extremes(now);
    }

    /// Records the answer to a reading.
    pub fn answered(&mut self, now: Timestamp, result: CloudResult<Depth>, log: &mut DecisionLog) {
        let called = self.call.answered().unwrap_or(now);
        match result {
            Ok(depth) => {
                (self.depth, self.depth_as_of) = (depth, called);
                self.backlog_since = (depth.visible > 0).then(|| self.backlog_since.unwrap_or(now));
                self.empty_since = (depth.total() == 0).then(|| self.empty_since.unwrap_or(now));
                self.update_extremes(now);
            }
            Err(error) => log.error(now, format!("queue depth not read: {error}")),
        }
    }

    fn update_extremes(&mut self, now: Timestamp) {
        let jobs = self.jobs();
        self.low.set(now, jobs);
        self.high.set(now, jobs);
    }

    /// Reads the depth when a reading is due. `poll_every` is the time until the next one.
    pub fn decide(&mut self, now: Timestamp, rules: &FleetRules, poll_every: Duration) -> Step {
        let mut step = Step::default();
        if self.call.ready(now) {
            self.call.call(now, poll_every);
            step.actions.push(Action::ReadDepth);
        }
        step.wake(now, self.call.next());
        for extreme in [&mut self.low, &mut self.high] {
            extreme.expire(now);
            if rules.policy == Policy::Backlog
                && let Some(at) = extreme.changes_at()
            {
                step.wake(now, at);
            }
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares with the definition: the extreme over every value that held at some time in the window.
        #[test]
        fn extremes_cover_exactly_the_window(changes in prop::collection::vec((0u64..5, 0u64..20), 1..60), window in 0u64..12) {
            let s = Duration::from_secs;
            let at = |seconds| Timestamp::new(s(seconds));
            let (mut low, mut high) = (Extreme::new(s(window), |o, n| o < n), Extreme::new(s(window), |o, n| o > n));
            let (mut now, mut history) = (0, vec![(0u64, 0u64)]);
            for (wait, value) in changes {
                now += wait;
                low.set(at(now), value);
                high.set(at(now), value);
                history.push((now, value));
                let ends = history.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
                let held: Vec<u64> =
                    history.iter().zip(ends).filter(|(_, end)| end.saturating_add(window) > now).map(|((_, v), _)| *v).collect();
                low.expire(at(now));
                high.expire(at(now));
                prop_assert_eq!(low.get(), *held.iter().min().expect("a value holds"));
                prop_assert_eq!(high.get(), *held.iter().max().expect("a value holds"));
            }
        }
    }
}

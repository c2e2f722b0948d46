//! How many jobs there are, and were lately.

use std::collections::VecDeque;

use super::{Time, depth::Depth};

/// How long the queue's counts may not show what was sent: SQS's are "approximate" and lag behind by a few seconds. A
/// reading that began within this time of an upload says nothing against it.
const COUNT_LAG: Time = Time::from_secs(5);

/// The extreme of a quantity over the last `window`, in constant time a change: values that a newer one outdoes are
/// dropped at once (a monotonic queue).
#[derive(Clone, Debug)]
struct Extreme {
    window: Time,
    /// Whether the first value outdoes the second.
    beats: fn(u64, u64) -> bool,
    /// Values, each with the time at which it was replaced; the last one holds still.
    values: VecDeque<(Time, u64)>,
}

impl Extreme {
    fn new(window: Time, beats: fn(u64, u64) -> bool) -> Self {
        Self { window, beats, values: VecDeque::from([(Time::MAX, 0)]) }
    }

    fn set(&mut self, now: Time, value: u64) {
        if let Some(last) = self.values.back_mut() {
            if last.1 == value {
                return;
            }
            last.0 = now;
        }
        while self.values.back().is_some_and(|(_, old)| !(self.beats)(*old, value)) {
            self.values.pop_back();
        }
        self.values.push_back((Time::MAX, value));
    }

    fn get(&mut self, now: Time) -> u64 {
        while self.values.len() > 1 && self.values[0].0.saturating_add(self.window) <= now {
            self.values.pop_front();
        }
        self.values[0].1
    }

    /// When it changes if the quantity does not.
    fn changes_at(&self) -> Option<Time> {
        (self.values.len() > 1).then(|| self.values[0].0.saturating_add(self.window))
    }
}

/// What is known of the work.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    pub depth: Depth,
    /// When the depth that is known was asked for.
    pub depth_at: Time,
    hint: Option<(Time, u64)>,
    low: Extreme,
    high: Extreme,
    /// Since when every reading of the queue has shown jobs that nobody has taken; or no job at all.
    pub backlog_since: Option<Time>,
    pub empty_since: Option<Time>,
}

impl Demand {
    pub fn new(up_delay: Time, down_delay: Time) -> Self {
        Self {
            depth: Depth::default(),
            depth_at: Time::ZERO,
            hint: None,
            low: Extreme::new(up_delay, |old, new| old < new),
            high: Extreme::new(down_delay, |old, new| old > new),
            backlog_since: None,
            empty_since: None,
        }
    }

    /// Uploads that wait in this process, if the queue's depth may not show them yet.
    pub fn hint(&self) -> u64 {
        self.hint.filter(|(at, _)| at.saturating_add(COUNT_LAG) >= self.depth_at).map_or(0, |(_, waiting)| waiting)
    }

    /// Jobs known to exist.
    pub fn jobs(&self) -> u64 {
        self.depth.total().max(self.hint())
    }

    pub fn hinted(&mut self, now: Time, waiting: u64) {
        self.hint = Some((now, waiting));
        self.changed(now);
    }

    /// A reading of the queue that was asked for at `asked`.
    pub fn read(&mut self, asked: Time, depth: Depth, now: Time) {
        (self.depth, self.depth_at) = (depth, asked);
        self.backlog_since = (depth.visible > 0).then(|| self.backlog_since.unwrap_or(now));
        self.empty_since = (depth.total() == 0).then(|| self.empty_since.unwrap_or(now));
        self.changed(now);
    }

    fn changed(&mut self, now: Time) {
        let jobs = self.jobs();
        self.low.set(now, jobs);
        self.high.set(now, jobs);
    }

    /// Lowest of the last `up_delay`, highest of the last `down_delay`.
    pub fn extremes(&mut self, now: Time) -> (u64, u64) {
        (self.low.get(now), self.high.get(now))
    }

    /// When the extremes change if the demand does not.
    pub fn changes_at(&self) -> impl Iterator<Item = Time> {
        self.low.changes_at().into_iter().chain(self.high.changes_at())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the definition: the extreme over every value that held at some time of the window.
        #[test]
        fn extremes_are_those_of_the_window(changes in prop::collection::vec((0u64..5, 0u64..20), 1..60), window in 0u64..12) {
            let s = Time::from_secs;
            let (mut low, mut high) = (Extreme::new(s(window), |o, n| o < n), Extreme::new(s(window), |o, n| o > n));
            let (mut now, mut history) = (0, vec![(0u64, 0u64)]);
            for (wait, value) in changes {
                now += wait;
                low.set(s(now), value);
                high.set(s(now), value);
                history.push((now, value));
                let ends = history.iter().skip(1).map(|(at, _)| *at).chain([u64::MAX]);
                let held: Vec<u64> =
                    history.iter().zip(ends).filter(|(_, end)| end.saturating_add(window) > now).map(|((_, v), _)| *v).collect();
                prop_assert_eq!(low.get(s(now)), *held.iter().min().expect("one holds"));
                prop_assert_eq!(high.get(s(now)), *held.iter().max().expect("one holds"));
            }
        }
    }
}

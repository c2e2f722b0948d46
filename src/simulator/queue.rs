//! The request queue: first in, first out, with counts that show the past.

use std::collections::VecDeque;

use super::{JobIndex, Time};
use crate::fleet::Depth;

/// See the module.
pub struct SimQueue {
    visible: VecDeque<JobIndex>,
    in_flight: u64,
    /// The longest time that counts may lag.
    longest_lag: Time,
    /// The counts since each time, oldest first; enough of them to look back `longest_lag`.
    past: VecDeque<(Time, Depth)>,
}

impl SimQueue {
    pub fn new(longest_lag: Time) -> Self {
        let past = VecDeque::from([(Time::ZERO, Depth::default())]);
        Self { visible: VecDeque::new(), in_flight: 0, longest_lag, past }
    }

    pub fn depth(&self) -> Depth {
        Depth { visible: self.visible.len() as u64, in_flight: self.in_flight, delayed: 0 }
    }

    /// The counts as they were at `at`.
    pub fn depth_at(&self, at: Time) -> Depth {
        let later = self.past.partition_point(|(since, _)| *since <= at);
        self.past.get(later.saturating_sub(1)).map_or_else(Depth::default, |(_, depth)| *depth)
    }

    pub fn is_empty(&self) -> bool {
        self.visible.is_empty()
    }

    /// A message has become visible.
    pub fn push(&mut self, job: JobIndex, now: Time) {
        self.visible.push_back(job);
        self.changed(now);
    }

    /// A receive.
    pub fn take(&mut self, now: Time) -> Option<JobIndex> {
        let job = self.visible.pop_front()?;
        self.in_flight += 1;
        self.changed(now);
        Some(job)
    }

    /// A delete.
    pub fn delete(&mut self, now: Time) {
        self.in_flight -= 1;
        self.changed(now);
    }

    /// The visibility of a received message has run out.
    pub fn return_to_queue(&mut self, job: JobIndex, now: Time) {
        self.in_flight -= 1;
        self.visible.push_front(job);
        self.changed(now);
    }

    fn changed(&mut self, now: Time) {
        self.past.push_back((now, self.depth()));
        let oldest = now.saturating_sub(self.longest_lag);
        while self.past.get(1).is_some_and(|(since, _)| *since <= oldest) {
            self.past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show_the_past() {
        let s = Time::from_secs;
        let mut queue = SimQueue::new(s(5));
        queue.push(0, s(10));
        queue.push(1, s(12));
        assert_eq!(queue.take(s(13)), Some(0));
        let counts = |at| (queue.depth_at(s(at)).visible, queue.depth_at(s(at)).in_flight);
        assert_eq!([9, 10, 11, 12, 13].map(counts), [(0, 0), (1, 0), (1, 0), (2, 0), (1, 1)]);
    }
}

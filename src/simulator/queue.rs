//! The request queue: first in, first out, with message counts that lag.

use std::{collections::VecDeque, time::Duration};

use super::{Time, traces::JobIndex};
use rollcall_fleet::Depth;

/// A simulated FIFO queue.
pub struct SimQueue {
    visible: VecDeque<JobIndex>,
    in_flight: u64,
    max_lag: Duration,
    /// The counts from each time on, oldest first; they go back `max_lag`.
    past: VecDeque<(Time, Depth)>,
}

impl SimQueue {
    /// Creates an empty queue whose counts can be read as of up to `max_lag` ago.
    pub fn new(max_lag: Duration) -> Self {
        let past = VecDeque::from([(Time::ZERO, Depth::default())]);
        Self { visible: VecDeque::new(), in_flight: 0, max_lag, past }
    }

    /// Returns the counts now.
    pub fn depth(&self) -> Depth {
        Depth { visible: self.visible.len() as u64, in_flight: self.in_flight, delayed: 0 }
    }

    /// Returns the counts as they were at `at`.
    pub fn depth_at(&self, at: Time) -> Depth {
        let later = self.past.partition_point(|(since, _)| *since <= at);
        self.past.get(later.saturating_sub(1)).map_or_else(Depth::default, |(_, depth)| *depth)
    }

    /// Returns whether no message is visible.
    pub fn is_empty(&self) -> bool {
        self.visible.is_empty()
    }

    /// Adds a message.
    pub fn push(&mut self, job: JobIndex, now: Time) {
        self.visible.push_back(job);
        self.record(now);
    }

    /// Receives the oldest visible message.
    pub fn receive(&mut self, now: Time) -> Option<JobIndex> {
        let job = self.visible.pop_front()?;
        self.in_flight += 1;
        self.record(now);
        Some(job)
    }

    /// Deletes a received message.
    pub fn delete(&mut self, now: Time) {
        self.in_flight -= 1;
        self.record(now);
    }

    /// Makes a received message visible again, before all others.
    pub fn return_to_queue(&mut self, job: JobIndex, now: Time) {
        self.in_flight -= 1;
        self.visible.push_front(job);
        self.record(now);
    }

    fn record(&mut self, now: Time) {
        self.past.push_back((now, self.depth()));
        let oldest = now.saturating_sub(self.max_lag);
        while self.past.get(1).is_some_and(|(since, _)| *since <= oldest) {
            self.past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_counts_are_kept_for_the_longest_lag() {
        let s = Time::from_secs;
        let mut queue = SimQueue::new(s(5));
        queue.push(0, s(10));
        queue.push(1, s(12));
        assert_eq!(queue.receive(s(13)), Some(0));
        let counts = |queue: &SimQueue, at| (queue.depth_at(s(at)).visible, queue.depth_at(s(at)).in_flight);
        assert_eq!([9, 10, 11, 12, 13].map(|at| counts(&queue, at)), [(0, 0), (1, 0), (1, 0), (2, 0), (1, 1)]);
        queue.delete(s(17));
        assert_eq!([12, 13, 16, 17].map(|at| counts(&queue, at)), [(2, 0), (1, 1), (1, 1), (1, 0)]);
        assert_eq!(queue.past.len(), 3, "counts older than the longest lag are dropped");
    }

    #[test]
    fn jobs_are_received_in_fifo_order_and_a_returned_job_comes_first() {
        let s = Time::from_secs;
        let mut queue = SimQueue::new(s(5));
        for job in 0..3 {
            queue.push(job, s(1));
        }
        assert_eq!(queue.receive(s(2)), Some(0));
        queue.return_to_queue(0, s(3));
        assert_eq!(std::iter::from_fn(|| queue.receive(s(4))).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((queue.depth().in_flight, queue.is_empty()), (3, true));
    }
}

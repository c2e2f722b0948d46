//! The arrivals that are remembered.

use std::collections::VecDeque;

/// Arrivals at about the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Batch {
    /// When, in seconds since the Unix epoch.
    pub at: f64,
    /// How many.
    pub jobs: u32,
    /// Instances that ran when they came.
    pub running: u32,
}

/// Most jobs remembered.
const MAX_JOBS: u64 = 4096;
/// Arrivals within this time, in seconds, are one batch.
const TOGETHER: f64 = 0.2;

/// The latest arrivals, in batches. Bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    batches: VecDeque<Batch>,
    /// Number of batches that were dropped.
    dropped: u64,
    jobs: u64,
}

impl History {
    /// Adds arrivals.
    pub fn add(&mut self, at: f64, jobs: u32, running: u32) {
        self.jobs += u64::from(jobs);
        match self.batches.back_mut() {
            Some(last) if at - last.at < TOGETHER => last.jobs = last.jobs.saturating_add(jobs),
            _ => self.batches.push_back(Batch { at, jobs, running }),
        }
        while self.jobs > MAX_JOBS && self.batches.len() > 1 {
            let first = self.batches.pop_front().map_or(0, |batch| batch.jobs);
            self.jobs -= u64::from(first);
            self.dropped += 1;
        }
    }

    /// Forgets what came before `at`.
    pub fn forget_before(&mut self, at: f64) {
        while let Some(first) = self.batches.front().filter(|batch| batch.at < at) {
            self.jobs -= u64::from(first.jobs);
            self.batches.pop_front();
            self.dropped += 1;
        }
    }

    /// Returns the number of the oldest batch, and the number that the next one will have.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.dropped..self.dropped + self.batches.len() as u64
    }

    /// Returns the number of jobs remembered.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    pub fn iter(&self) -> impl Iterator<Item = Batch> {
        self.batches.iter().copied()
    }

    /// Returns the longest time between two batches, in seconds.
    pub fn longest_gap(&self) -> f64 {
        self.batches.iter().zip(self.batches.iter().skip(1)).map(|(a, b)| b.at - a.at).fold(0.0, f64::max)
    }

    /// Returns a batch by its number.
    pub fn get(&self, number: u64) -> Option<Batch> {
        self.batches.get(usize::try_from(number.checked_sub(self.dropped)?).ok()?).copied()
    }
}

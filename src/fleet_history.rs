//! What the fleet did, for the page that draws it: the queue, the instances, uploads and answers, latency by stage, the
//! cost, and the decisions with their reasons.
//!
//! [`History`] is a pure data structure: rings of buckets at four resolutions, with the time passed in. [`FleetHistory`]
//! shares one between those who report to it and those who read it, and [`recorder`] has it look at the fleet every second
//! and keeps it in a file. It holds numbers and the ids of instances, nothing of what was uploaded or recognised.

mod bucket;
mod count;
mod file;
mod gauges;
mod history;
mod latency;
pub mod page;
pub mod recorder;
mod series;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use count::Count;
pub use gauges::Gauges;
pub use history::{History, Range};
pub use latency::{Latency, STAGES};
pub use page::Page;

use crate::{clock::now_ms, fleet::explain::Decisions};

/// A history that is shared by those who report to it and those who read it. Cheap to clone.
#[derive(Clone, Default)]
pub struct FleetHistory(Arc<Mutex<History>>);

impl FleetHistory {
    /// Counts something that happens now.
    pub fn count(&self, count: Count) {
        self.lock().count(now_ms(), count);
    }

    /// Adds how long the reply to a job took that arrives now.
    pub fn answered_in(&self, latency: Latency) {
        self.lock().answered_in(now_ms(), latency);
    }

    /// Notes the state of the fleet at `now_ms`, and the decisions since the last time.
    pub(crate) fn observe(&self, now_ms: u64, gauges: Gauges, decisions: &Decisions) {
        let mut history = self.lock();
        history.observe(now_ms, gauges);
        history.note_decisions(decisions);
    }

    /// Returns the buckets of a range that begin at `from_s` or later, in seconds since the Unix epoch, and the decisions
    /// since then.
    pub fn page(&self, now_ms: u64, range: Range, from_s: u64) -> Page {
        let mut history = self.lock();
        history.advance(now_ms);
        Page::new(&history, range, from_s)
    }

    /// Runs `change` while nobody else uses the history.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        // A panic while it was locked leaves a history that lacks at most what was being added.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

//! The history of a run, for the report and the plots.

use super::{Time, traces::JobIndex};
use rollcall_fleet::Depth;

/// When a job was uploaded, when a thread last started it, and when it was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// When it was uploaded.
    pub arrived: Time,
    /// When a thread last started it.
    pub started_at: Option<Time>,
    /// When it was answered.
    pub answered: Option<Time>,
}

/// The state of the queue and the fleet from `at` to the next sample: numbers of jobs, and of instances by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The time from which the counts hold.
    pub at: Time,
    /// Waiting jobs.
    pub waiting: u64,
    /// Jobs that a worker has received.
    pub in_flight: u64,
    /// Pending instances.
    pub pending: usize,
    /// Running instances.
    pub running: usize,
    /// Stopping instances.
    pub stopping: usize,
    /// Stopped instances.
    pub stopped: usize,
}

/// The history of a run. Times count from the start of the trace; earlier times are zero.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The jobs, by their index in the trace.
    pub jobs: Vec<JobTimes>,
    /// One sample per change, in order of time.
    pub samples: Vec<Sample>,
    /// Maximum number of instances pending or running at the same time.
    pub peak: usize,
    /// When the run ended.
    pub end: Time,
}

impl History {
    pub(super) fn new(jobs: usize) -> Self {
        Self { jobs: vec![JobTimes::default(); jobs], ..Self::default() }
    }

    /// Adds a sample, unless nothing has changed. It replaces an earlier sample of the same time.
    pub(super) fn sample(&mut self, at: Time, depth: Depth, [pending, running, stopping, stopped]: [usize; 4]) {
        self.peak = self.peak.max(pending + running);
        let (waiting, in_flight) = (depth.visible + depth.delayed, depth.in_flight);
        let new = Sample { at, waiting, in_flight, pending, running, stopping, stopped };
        match self.samples.last_mut() {
            Some(last) if Sample { at, ..*last } == new => {}
            Some(last) if last.at == at => *last = new,
            _ => self.samples.push(new),
        }
    }

    pub(super) fn job(&mut self, job: JobIndex) -> &mut JobTimes {
        &mut self.jobs[job]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_added_only_on_a_change_and_at_most_one_per_instant() {
        let (mut history, s) = (History::new(0), Time::from_secs);
        let depth = |visible| Depth { visible, in_flight: 1, delayed: 2 };
        for (at, visible, running) in [(0, 0, 0), (1, 0, 0), (2, 5, 1), (2, 5, 3), (3, 5, 3), (4, 5, 2)] {
            history.sample(s(at), depth(visible), [1, running, 0, 0]);
        }
        let seen: Vec<_> = history.samples.iter().map(|x| (x.at, x.waiting, x.in_flight, x.running)).collect();
        assert_eq!(seen, [(s(0), 2, 1, 0), (s(2), 7, 1, 3), (s(4), 7, 1, 2)]);
        assert_eq!(history.peak, 4, "pending and running together");
    }
}

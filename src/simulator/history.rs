//! What happened in a run: each job's times, and the queue and the fleet through time.

use super::{JobIndex, Time};
use crate::fleet::Depth;

/// When a job was uploaded, taken up by a thread for the last time, and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTimes {
    pub arrived: Time,
    pub began: Option<Time>,
    pub answered: Option<Time>,
}

/// The queue and the fleet from a time on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub at: Time,
    pub waiting: u64,
    pub in_work: u64,
    pub pending: usize,
    pub running: usize,
    pub stopping: usize,
    pub stopped: usize,
}

/// Times count from the beginning of the trace.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub jobs: Vec<JobTimes>,
    pub samples: Vec<Sample>,
    /// Most instances pending or running at once.
    pub peak: usize,
    /// When everything had come to rest.
    pub end: Time,
}

impl History {
    pub fn new(jobs: usize) -> Self {
        Self { jobs: vec![JobTimes::default(); jobs], ..Self::default() }
    }

    /// The samples are changes: one like the last is left out, one of the same time replaces it.
    pub fn sample(&mut self, at: Time, depth: Depth, [pending, running, stopping, stopped]: [usize; 4]) {
        self.peak = self.peak.max(pending + running);
        let (waiting, in_work) = (depth.visible + depth.delayed, depth.in_flight);
        let new = Sample { at, waiting, in_work, pending, running, stopping, stopped };
        match self.samples.last_mut() {
            Some(last) if Sample { at, ..*last } == new => {}
            Some(last) if last.at == at => *last = new,
            _ => self.samples.push(new),
        }
    }

    pub fn job(&mut self, job: JobIndex) -> &mut JobTimes {
        &mut self.jobs[job]
    }
}

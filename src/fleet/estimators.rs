//! Estimates of how long things take, learned from observations.

use std::{collections::VecDeque, ops::Range, time::Duration};

use super::{learned_times::LearnedTimes, tracked::BootKind};

/// Observations kept for each kind. They are few, so that a change of image or instance type is learned within a burst
/// or two.
const WINDOW: usize = 15;
/// Number of observations below which the prior stands in for the missing ones, so that an outlier does not change the
/// plan.
const MIN_OBSERVATIONS: usize = 3;
/// Number of jobs after which older ones count half.
const HALF_LIFE: u64 = 128;
/// Number of jobs that the prior of the service time counts as.
const PRIOR_JOBS: u64 = 4;

/// The median of the last [`WINDOW`] durations: a single slow boot must not change the plan for the others.
#[derive(Clone, Debug)]
struct MedianEstimator {
    prior: Duration,
    latest: VecDeque<Duration>,
    median: Duration,
}

impl MedianEstimator {
    fn new(prior: Duration) -> Self {
        Self { prior, latest: VecDeque::new(), median: prior }
    }

    fn add(&mut self, took: Duration) {
        if self.latest.len() == WINDOW {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
        let missing = MIN_OBSERVATIONS.saturating_sub(self.latest.len());
        let priors = std::iter::repeat_n(self.prior, missing);
        let mut all: Vec<Duration> = self.latest.iter().copied().chain(priors).collect();
        let middle = all.len() / 2;
        self.median = *all.select_nth_unstable(middle).1;
    }
}

/// The average time of a job, in which older jobs count less and less.
#[derive(Clone, Debug)]
struct ServiceTimeEstimator {
    jobs: u64,
    busy: Duration,
}

impl ServiceTimeEstimator {
    fn new(prior: Duration) -> Self {
        Self { jobs: PRIOR_JOBS, busy: prior.saturating_mul(PRIOR_JOBS as u32) }
    }

    fn add(&mut self, jobs: u64, busy: Duration) {
        self.jobs = self.jobs.saturating_add(jobs);
        self.busy = self.busy.saturating_add(busy);
        while self.jobs > 2 * HALF_LIFE {
            (self.jobs, self.busy) = (self.jobs / 2, self.busy / 2);
        }
    }

    fn mean(&self) -> Duration {
        let nanos = self.busy.as_nanos() / u128::from(self.jobs.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Learns the times of boots, stops and jobs.
#[derive(Clone, Debug)]
pub(super) struct TimeEstimators {
    boot_cold: MedianEstimator,
    boot_warm: MedianEstimator,
    stop: MedianEstimator,
    service: ServiceTimeEstimator,
}

impl TimeEstimators {
    /// Creates estimators with their priors. The prior of a stop is that of a warm boot.
    pub fn new(boot_cold: Duration, boot_warm: Duration, service: Duration) -> Self {
        Self {
            boot_cold: MedianEstimator::new(boot_cold),
            boot_warm: MedianEstimator::new(boot_warm),
            stop: MedianEstimator::new(boot_warm),
            service: ServiceTimeEstimator::new(service),
        }
    }

    /// Records the time from a launch or a start until the instance was seen running.
    pub fn booted(&mut self, kind: BootKind, took: Duration) {
        match kind {
            BootKind::Cold => self.boot_cold.add(took),
            BootKind::Warm => self.boot_warm.add(took),
        }
    }

    /// Records the time from when an instance was seen stopping until it was seen stopped.
    pub fn stopped(&mut self, took: Duration) {
        self.stop.add(took);
    }

    /// Records that `jobs` jobs took `busy` in total.
    pub fn served(&mut self, jobs: u64, busy: Duration) {
        self.service.add(jobs, busy);
    }

    pub fn learned(&self) -> LearnedTimes {
        LearnedTimes {
            boot_cold: self.boot_cold.median,
            boot_warm: self.boot_warm.median,
            service: self.service.mean(),
        }
    }

    /// Returns the time from when an instance begins to stop until it is stopped.
    pub fn stop(&self) -> Duration {
        self.stop.median
    }

    /// Returns the remaining time of a boot that has taken `elapsed`.
    pub fn boot_remaining(&self, kind: BootKind, elapsed: Duration) -> Duration {
        match kind {
            BootKind::Cold => remaining(self.boot_cold.median, elapsed),
            BootKind::Warm => remaining(self.boot_warm.median, elapsed),
        }
    }

    /// Returns the range of elapsed times at which a stop has at most `left` remaining; see [`remaining`]. The end is
    /// excluded.
    pub fn stops_within(&self, left: Duration) -> Range<Duration> {
        let median = self.stop.median;
        median.saturating_sub(left)..median.saturating_add(left)
    }
}

/// Returns the remaining time of an operation that takes `median` and has taken `elapsed`. An operation that is
/// already late is expected to take as much longer as it is late.
fn remaining(median: Duration, elapsed: Duration) -> Duration {
    median.abs_diff(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn cold_and_warm_boots_are_learned_separately_and_an_outlier_is_ignored() {
        let mut estimators = TimeEstimators::new(25 * SECOND, 15 * SECOND, SECOND);
        estimators.booted(BootKind::Cold, 90 * SECOND);
        assert_eq!(estimators.learned().boot_cold, 25 * SECOND, "one observation does not change the estimate");
        for _ in 0..10 {
            estimators.booted(BootKind::Cold, 40 * SECOND);
        }
        assert_eq!(estimators.learned().boot_cold, 40 * SECOND);
        assert_eq!(estimators.learned().boot_warm, 15 * SECOND, "cold boots do not change the estimate of warm boots");
        for _ in 0..WINDOW {
            estimators.booted(BootKind::Cold, 20 * SECOND);
        }
        assert_eq!(estimators.learned().boot_cold, 20 * SECOND, "observations outside the window are forgotten");
    }

    #[test]
    fn the_service_time_estimate_tracks_recent_jobs() {
        let mut estimators = TimeEstimators::new(SECOND, SECOND, SECOND);
        estimators.served(4, 4 * SECOND * 3);
        assert_eq!(estimators.learned().service, 2 * SECOND, "four jobs weigh as much as the prior");
        for _ in 0..2000 {
            estimators.served(1, SECOND / 2);
        }
        let service = estimators.learned().service;
        assert!(service.abs_diff(SECOND / 2) < SECOND / 100, "{service:?}");
    }

    #[test]
    fn the_remaining_time_of_an_overdue_operation_equals_its_overdue_time() {
        assert_eq!(remaining(25 * SECOND, 10 * SECOND), 15 * SECOND);
        assert_eq!(remaining(25 * SECOND, 65 * SECOND), 40 * SECOND);
    }
}

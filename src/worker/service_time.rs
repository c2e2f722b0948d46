//! Estimates how long jobs take on a thread.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How long jobs take on a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTime {
    /// The average.
    pub mean: Duration,
    /// Nearly all jobs take no longer.
    pub upper_bound: Duration,
}

/// Keeps exponential averages of the service time (the latest job has weight 1/8) and of its deviation (1/4), like RFC
/// 6298 for the round-trip time.
#[derive(Debug, Default)]
pub struct ServiceTimeEstimator(Mutex<Option<(Duration, Duration)>>);

impl ServiceTimeEstimator {
    /// Returns the current estimate; `None` before the first job.
    pub fn get(&self) -> Option<ServiceTime> {
        let (mean, deviation) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(ServiceTime { mean, upper_bound: mean + 4 * deviation })
    }

    /// Records the service time of a job.
    pub fn add(&self, took: Duration) {
        let mut estimate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *estimate = Some(match *estimate {
            None => (took, took / 2),
            Some((mean, deviation)) => ((7 * mean + took) / 8, (3 * deviation + mean.abs_diff(took)) / 4),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_estimate_tracks_recent_jobs() {
        let estimator = ServiceTimeEstimator::default();
        assert_eq!(estimator.get(), None);
        estimator.add(ms(8));
        assert_eq!(estimator.get(), Some(ServiceTime { mean: ms(8), upper_bound: ms(24) }));
        estimator.add(ms(16));
        assert_eq!(estimator.get(), Some(ServiceTime { mean: ms(9), upper_bound: ms(29) }));
        (0..100).for_each(|_| estimator.add(ms(40)));
        let steady = estimator.get().expect("an estimate");
        assert!(steady.mean > ms(39) && steady.upper_bound < ms(41), "{steady:?}");
        estimator.add(ms(400));
        assert!(estimator.get().expect("an estimate").upper_bound > ms(400), "a spread raises the bound");
    }
}

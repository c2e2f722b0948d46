//! Times learned from what happened, for policies that plan.

use std::collections::VecDeque;

use super::{Time, instances::Boot, policy::LearnedTimes};

/// Boots remembered of a kind. Few, so that a change of image or type is followed within a burst or two.
const WINDOW: usize = 15;
/// The prior stands in for missing ones of so many boots: one odd boot does not move the plan.
const TRUSTED: usize = 3;
/// Jobs after which older ones count half.
const HALF_LIFE: u64 = 128;
/// Jobs that the prior of the service time counts for.
const PRIOR_JOBS: u64 = 4;

/// The median of the last [`WINDOW`] times: one slow boot in a hundred shall not spoil the plan for the others.
#[derive(Clone, Debug)]
struct Median {
    prior: Time,
    last: VecDeque<Time>,
    median: Time,
}

impl Median {
    fn new(prior: Time) -> Self {
        Self { prior, last: VecDeque::new(), median: prior }
    }

    fn add(&mut self, time: Time) {
        if self.last.len() == WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(time);
        let missing = TRUSTED.saturating_sub(self.last.len());
        let mut times: Vec<Time> = self.last.iter().copied().chain(std::iter::repeat_n(self.prior, missing)).collect();
        let middle = times.len() / 2;
        self.median = *times.select_nth_unstable(middle).1;
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Learning {
    cold: Median,
    warm: Median,
    stop: Median,
    jobs: u64,
    busy: Time,
}

impl Learning {
    /// Begins with priors. A stop is taken to last as long as a warm boot until one has been seen.
    pub fn new(boot_cold: Time, boot_warm: Time, service: Time) -> Self {
        Self {
            cold: Median::new(boot_cold),
            warm: Median::new(boot_warm),
            stop: Median::new(boot_warm),
            jobs: PRIOR_JOBS,
            busy: service * PRIOR_JOBS as u32,
        }
    }

    pub fn booted(&mut self, kind: Boot, took: Time) {
        match kind {
            Boot::Cold => self.cold.add(took),
            Boot::Warm => self.warm.add(took),
        }
    }

    pub fn stopped(&mut self, took: Time) {
        self.stop.add(took);
    }

    /// `jobs` jobs took `busy` in all: an average in which older jobs count less and less.
    pub fn served(&mut self, jobs: u64, busy: Time) {
        self.jobs = self.jobs.saturating_add(jobs);
        self.busy = self.busy.saturating_add(busy);
        while self.jobs > 2 * HALF_LIFE {
            (self.jobs, self.busy) = (self.jobs / 2, self.busy / 2);
        }
    }

    pub fn times(&self) -> LearnedTimes {
        let nanos = self.busy.as_nanos() / u128::from(self.jobs.max(1));
        LearnedTimes {
            boot_cold: self.cold.median,
            boot_warm: self.warm.median,
            service: Time::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        }
    }

    /// From the first sight of a stopping instance to the first of it stopped.
    pub fn stop(&self) -> Time {
        self.stop.median
    }
}

/// How much longer something that takes `usual` will take when it has taken `elapsed`: the rest, and when it is late, as
/// much again as it is late.
pub(super) fn remaining(usual: Time, elapsed: Time) -> Time {
    usual.abs_diff(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Time = Time::from_secs(1);

    #[test]
    fn boots_of_each_kind_are_learned_and_an_odd_one_changes_nothing() {
        let mut learning = Learning::new(25 * SECOND, 15 * SECOND, SECOND);
        learning.booted(Boot::Cold, 90 * SECOND);
        assert_eq!(learning.times().boot_cold, 25 * SECOND, "one boot is no rule");
        for _ in 0..10 {
            learning.booted(Boot::Cold, 40 * SECOND);
        }
        assert_eq!(learning.times().boot_cold, 40 * SECOND);
        assert_eq!(learning.times().boot_warm, 15 * SECOND, "the other kind is another matter");
        for _ in 0..WINDOW {
            learning.booted(Boot::Cold, 20 * SECOND);
        }
        assert_eq!(learning.times().boot_cold, 20 * SECOND, "the past is forgotten");
    }

    #[test]
    fn the_service_time_follows_the_jobs() {
        let mut learning = Learning::new(SECOND, SECOND, SECOND);
        learning.served(4, 4 * SECOND * 3);
        assert_eq!(learning.times().service, 2 * SECOND, "four jobs weigh as much as the prior");
        for _ in 0..2000 {
            learning.served(1, SECOND / 2);
        }
        let service = learning.times().service;
        assert!(service.abs_diff(SECOND / 2) < SECOND / 100, "{service:?}");
    }

    #[test]
    fn what_is_late_is_expected_to_be_as_late_again() {
        assert_eq!(remaining(25 * SECOND, 10 * SECOND), 15 * SECOND);
        assert_eq!(remaining(25 * SECOND, 65 * SECOND), 40 * SECOND);
    }
}

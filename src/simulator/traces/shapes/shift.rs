//! `shift`: the nature of the arrivals changes half-way. One day has single jobs at random, the other has bursts; which
//! comes first depends on the seed.

use super::processes::{DAY, minutes, poisson_process};
use crate::{Time, random::Random};

/// Mean gap of the day with single jobs.
const MEAN_GAP: Time = Time::from_secs(40);
/// The gap before each burst: exponential.
const MEAN_PAUSE: Time = minutes(15);
/// Number of jobs of a burst: log-normal.
const MEDIAN_JOBS: f64 = 40.0;
const SIGMA: f64 = 0.7;
const MAX_JOBS: f64 = 250.0;
const MEAN_GAP_WITHIN: Time = Time::from_millis(50);

/// Draws the arrivals.
pub fn times(random: &mut Random) -> (Time, Vec<Time>) {
    let (singles, bursts) = if random.chance(0.5) { (Time::ZERO, DAY) } else { (DAY, Time::ZERO) };
    let mut times = poisson_process(singles, singles + DAY, MEAN_GAP, random);
    let mut at = bursts;
    loop {
        at += random.exponential(MEAN_PAUSE);
        let jobs = (MEDIAN_JOBS * random.log_normal_factor(SIGMA)).clamp(1.0, MAX_JOBS);
        for _ in 0..jobs as usize {
            at += random.exponential(MEAN_GAP_WITHIN);
            if at >= bursts + DAY {
                times.sort_unstable();
                return (2 * DAY, times);
            }
            times.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::statistics::*;

    #[test]
    fn one_day_has_single_jobs_and_the_other_has_bursts() {
        let mut bursts_first = 0;
        for seed in 1..=20 {
            let (length, times) = draw("shift", seed);
            assert_eq!(length, 2.0 * 86_400.0);
            let index = |day: f64| {
                let from = day * 86_400.0;
                let times: Vec<f64> =
                    times.iter().map(|at| at - from).filter(|at| (0.0..86_400.0).contains(at)).collect();
                let counts = counts(&times, 86_400.0, 60.0);
                // Of a Poisson process, the variance of the counts is their mean.
                (deviation(&counts).powi(2) / mean(&counts), times.len())
            };
            let days = [index(0.0), index(1.0)];
            let (singles, bursts) = if days[0].0 < days[1].0 { (days[0], days[1]) } else { (days[1], days[0]) };
            bursts_first += usize::from(bursts == days[0]);
            assert!((0.8..1.2).contains(&singles.0) && (1_950..2_400).contains(&singles.1), "seed {seed}: {singles:?}");
            assert!(bursts.0 > 30.0 && (3_000..7_500).contains(&bursts.1), "seed {seed}: {bursts:?}");
        }
        assert!((5..=15).contains(&bursts_first), "both orders occur: {bursts_first} of 20");
    }
}

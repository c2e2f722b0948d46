//! `periodic`: jobs that a timer sends in batches, among others that come at random.
//!
//! Timers with periods of minutes are a common cause of work in Shahrad et al., *Serverless in the Wild* (ATC '20).

use super::processes::{hours, minutes, poisson_process};
use crate::{Time, random::Random};

const LENGTH: Time = hours(24);
const PERIOD: Time = minutes(10);
/// How long after the timer a batch begins: log-normal.
const MEDIAN_DELAY: Time = Time::from_secs(3);
const DELAY_SIGMA: f64 = 0.5;
/// Number of jobs of a batch: log-normal.
const MEDIAN_JOBS: f64 = 25.0;
const JOBS_SIGMA: f64 = 0.5;
const MAX_JOBS: f64 = 200.0;
/// The jobs of a batch come in quick succession.
const MEAN_GAP_WITHIN: Time = Time::from_millis(100);
/// Mean gap of the jobs that no timer sends.
const MEAN_GAP_BETWEEN: Time = minutes(3);

/// Draws the arrivals. The phase of the timer is random.
pub fn times(random: &mut Random) -> (Time, Vec<Time>) {
    let mut times = poisson_process(Time::ZERO, LENGTH, MEAN_GAP_BETWEEN, random);
    let mut timer = random.up_to(PERIOD);
    while timer < LENGTH {
        let mut at = timer + random.log_normal(MEDIAN_DELAY, DELAY_SIGMA);
        let jobs = (MEDIAN_JOBS * random.log_normal_factor(JOBS_SIGMA)).clamp(1.0, MAX_JOBS);
        for _ in 0..jobs as usize {
            at += random.exponential(MEAN_GAP_WITHIN);
            times.push(at);
        }
        timer += PERIOD;
    }
    times.retain(|at| *at < LENGTH);
    times.sort_unstable();
    (LENGTH, times)
}

#[cfg(test)]
mod tests {
    use super::super::statistics::*;

    #[test]
    fn arrivals_are_correlated_at_the_period_and_not_at_half_of_it() {
        for seed in 1..=10 {
            let (length, times) = draw("periodic", seed);
            assert_eq!(length, 86_400.0);
            // 144 batches of 28 jobs on average, and 480 others.
            assert!((3_900..5_200).contains(&times.len()), "{}", times.len());
            let counts = counts(&times, length, 15.0);
            let (period, half) = (autocorrelation(&counts, 40), autocorrelation(&counts, 20));
            assert!(period > 0.4 && half < 0.0, "seed {seed}: {period} after 10 minutes, {half} after 5 minutes");
            assert!(autocorrelation(&counts, 38) < 0.1, "seed {seed}: not at another lag");
        }
    }
}

//! `self-similar`: a day of bursts on every time scale, from many sources that are on and off for times of heavy tail.
//!
//! Willinger et al., *Self-Similarity Through High-Variability* (IEEE/ACM Transactions on Networking 5(1), 1997): the
//! sum of sources whose times on or off have a Pareto tail of index α between 1 and 2 is self-similar, with the Hurst
//! parameter (3 - α) / 2 of the smallest α. Here that is 0.9.

use super::processes::{hours, poisson_process};
use crate::{Time, random::Random};

const LENGTH: Time = hours(24);
const SOURCES: usize = 5;
/// Time on: Pareto, from 5 s, 15 s on average.
const MIN_ON: Time = Time::from_secs(5);
const ON_INDEX: f64 = 1.5;
/// Time off: Pareto, from 100 s, 600 s on average.
const MIN_OFF: Time = Time::from_secs(100);
const OFF_INDEX: f64 = 1.2;
/// Mean gap between the jobs of a source that is on.
const MEAN_GAP: Time = Time::from_secs(1);
/// The sources have been alternating for this long when the trace begins.
const BEFORE: Time = hours(24);

/// Draws how long a source is on.
fn on(random: &mut Random) -> Time {
    random.pareto(MIN_ON, ON_INDEX)
}

/// Draws how long a source is off.
fn off(random: &mut Random) -> Time {
    random.pareto(MIN_OFF, OFF_INDEX)
}

/// Draws the arrivals of all sources.
pub fn times(random: &mut Random) -> (Time, Vec<Time>) {
    let mut times = Vec::new();
    for _ in 0..SOURCES {
        let end = BEFORE + LENGTH;
        let mut from = off(random);
        while from < end {
            let to = from + on(random);
            if to > BEFORE {
                let jobs = poisson_process(from.max(BEFORE), to.min(end), MEAN_GAP, random);
                times.extend(jobs.into_iter().map(|at| at - BEFORE));
            }
            from = to + off(random);
        }
    }
    times.sort_unstable();
    (LENGTH, times)
}

#[cfg(test)]
mod tests {
    use super::{super::statistics::*, *};
    use crate::random::Purpose;

    #[test]
    fn times_on_and_off_have_a_tail_of_their_index() {
        let mut random = Random::new(1, Purpose::Arrivals);
        type Draw = fn(&mut Random) -> Time;
        for (draw, min, index) in [(on as Draw, MIN_ON, ON_INDEX), (off, MIN_OFF, OFF_INDEX)] {
            let mut all: Vec<f64> = (0..20_000).map(|_| draw(&mut random).as_secs_f64()).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            assert!(all.last().is_some_and(|least| *least >= min.as_secs_f64()));
            // Hill's estimator on the largest tenth.
            let logs: Vec<f64> = all[..2_000].iter().map(|x| (x / all[2_000]).ln()).collect();
            let hill = 1.0 / mean(&logs);
            assert!((hill / index - 1.0).abs() < 0.1, "index {hill}, not {index}");
        }
    }

    /// The variance of means over n intervals falls as n^(2H - 2): slower than the n^-1 of independent counts.
    #[test]
    fn bursts_do_not_average_out_over_longer_times() {
        let hurst = |name: &str| {
            let of = |seed| {
                let (length, times) = draw(name, seed);
                let counts = counts(&times, length, 1.0);
                let variance = |n: usize| {
                    let means: Vec<f64> = counts.chunks_exact(n).map(mean).collect();
                    deviation(&means).powi(2)
                };
                1.0 + (variance(1_000) / variance(10)).ln() / 100.0_f64.ln() / 2.0
            };
            mean(&(1..=10).map(of).collect::<Vec<_>>())
        };
        let (ours, independent) = (hurst("self-similar"), hurst("poisson"));
        assert!((0.65..0.95).contains(&ours), "{ours}");
        assert!((0.45..0.55).contains(&independent), "{independent}");
    }

    #[test]
    fn a_day_has_about_ten_thousand_jobs() {
        let jobs: Vec<f64> = (1..=20).map(|seed| draw("self-similar", seed).1.len() as f64).collect();
        // Five sources, on for 15 of 615 s on average; with these tails, the mean of a day differs from that.
        assert!((0.7..2.0).contains(&(mean(&jobs) / 10_537.0)), "{}", mean(&jobs));
        assert!(deviation(&jobs) > 0.05 * mean(&jobs), "{}", deviation(&jobs));
    }
}

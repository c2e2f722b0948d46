//! `weekly`: a week of working days and a quiet weekend.
//!
//! The rate is that of an office: a cosine of the time of day, lower on Saturday and Sunday, and higher or lower as a
//! whole on each day. Traces of serverless functions (Shahrad et al., *Serverless in the Wild*, ATC '20) and of language
//! models (Wang et al., *BurstGPT*, KDD '25) have such days and weeks.

use std::f64::consts::TAU;

use super::processes::{DAY, hours, poisson_process};
use crate::{Time, random::Random};

const DAYS: u32 = 7;
/// Jobs per second on an average working day, at 02:00 and at 14:00.
const MIN_RATE: f64 = 0.002;
const MAX_RATE: f64 = 0.1;
const PEAK: Time = hours(14);
/// The rate on Saturday and Sunday, relative to a working day.
const WEEKEND: f64 = 0.25;
/// Each day's rate varies by a log-normal factor with this standard deviation of its logarithm.
const DAY_SIGMA: f64 = 0.15;
/// The factor is at most this, so that there is a maximum rate.
const MAX_DAY_FACTOR: f64 = 2.0;

/// Returns jobs per second.
fn rate(at: Time, day_factors: &[f64]) -> f64 {
    let day = (at.as_secs() / DAY.as_secs()) as usize;
    let phase = (at.as_secs_f64() - PEAK.as_secs_f64()) / DAY.as_secs_f64() * TAU;
    let base = MIN_RATE + (MAX_RATE - MIN_RATE) * (1.0 + phase.cos()) / 2.0;
    base * day_factors[day] * if day < 5 { 1.0 } else { WEEKEND }
}

/// Draws an inhomogeneous Poisson process by thinning, as for `diurnal`.
pub fn times(random: &mut Random) -> (Time, Vec<Time>) {
    let length = DAY * DAYS;
    let factors: Vec<f64> = (0..DAYS).map(|_| random.log_normal_factor(DAY_SIGMA).min(MAX_DAY_FACTOR)).collect();
    let max_rate = MAX_RATE * MAX_DAY_FACTOR;
    let mut times = poisson_process(Time::ZERO, length, Time::from_secs_f64(1.0 / max_rate), random);
    times.retain(|at| random.chance(rate(*at, &factors) / max_rate));
    (length, times)
}

#[cfg(test)]
mod tests {
    use super::super::statistics::*;

    #[test]
    fn working_days_have_four_times_the_jobs_of_the_weekend_most_of_them_around_two() {
        let all: Vec<(f64, Vec<f64>)> = (1..=20).map(|seed| draw("weekly", seed)).collect();
        let of = |from_hour: f64, to_hour: f64| {
            let counts = all.iter().map(|(_, times)| within(times, from_hour * 3600.0, to_hour * 3600.0));
            counts.sum::<f64>() / all.len() as f64
        };
        assert!(all.iter().all(|(length, times)| *length == 7.0 * 86_400.0 && times.iter().all(|at| at < length)));
        let (working, weekend) = (of(0.0, 120.0) / 5.0, of(120.0, 168.0) / 2.0);
        // The mean rate is 0.051/s, and that of the log-normal factor is 1.011.
        assert!((4_250.0..4_650.0).contains(&working), "{working}");
        assert!((3.7..4.3).contains(&(working / weekend)), "{working} on working days, {weekend} on others");
        for day in 0..7 {
            let noon = f64::from(day) * 24.0 + 14.0;
            let (peak, trough) = (of(noon - 1.0, noon + 1.0), of(noon - 13.0, noon - 11.0));
            assert!(peak > 15.0 * trough, "day {day}: {peak} around 14:00, {trough} around 02:00");
        }
        let days: Vec<f64> = all.iter().map(|(_, times)| within(times, 0.0, 86_400.0)).collect();
        let spread = deviation(&days) / mean(&days);
        assert!((0.08..0.25).contains(&spread), "days differ by more than chance: {spread}");
    }
}

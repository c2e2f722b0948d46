//! What the tests of the traces compute of arrivals. Times are in seconds.

use super::{Random, times};
use crate::random::Purpose;

/// Returns the length and the arrivals of a trace.
pub fn draw(name: &str, seed: u64) -> (f64, Vec<f64>) {
    let (length, times) = times(name, &mut Random::new(seed, Purpose::Arrivals)).expect("a name");
    (length.as_secs_f64(), times.into_iter().map(|at| at.as_secs_f64()).collect())
}

/// Returns the number of arrivals between two times.
pub fn within(times: &[f64], from: f64, to: f64) -> f64 {
    times.iter().filter(|at| (from..to).contains(*at)).count() as f64
}

/// Returns the times between arrivals.
pub fn gaps(times: &[f64]) -> Vec<f64> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Returns the number of arrivals in each interval.
pub fn counts(times: &[f64], length: f64, interval: f64) -> Vec<f64> {
    let mut counts = vec![0.0; (length / interval).ceil() as usize];
    for at in times {
        counts[(at / interval) as usize] += 1.0;
    }
    counts
}

/// Returns the mean.
pub fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Returns the standard deviation.
pub fn deviation(numbers: &[f64]) -> f64 {
    let mean = mean(numbers);
    (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64).sqrt()
}

/// Returns the correlation of a series with itself, `lag` intervals later.
pub fn autocorrelation(series: &[f64], lag: usize) -> f64 {
    let mean = mean(series);
    let of = |lag: usize| series.iter().zip(&series[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    of(lag) / of(0)
}

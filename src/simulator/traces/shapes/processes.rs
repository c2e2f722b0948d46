//! What the traces are made of.

use super::super::super::{Time, random::Random};

/// Returns a time of some minutes.
pub const fn minutes(n: u64) -> Time {
    Time::from_secs(60 * n)
}

/// Returns a time of some hours.
pub const fn hours(n: u64) -> Time {
    minutes(60 * n)
}

/// A day.
pub const DAY: Time = hours(24);

/// Draws a Poisson process between two times.
pub fn poisson_process(from: Time, to: Time, mean_gap: Time, random: &mut Random) -> Vec<Time> {
    let first = from + random.exponential(mean_gap);
    std::iter::successors(Some(first), |at| Some(*at + random.exponential(mean_gap)))
        .take_while(|at| *at < to)
        .collect()
}

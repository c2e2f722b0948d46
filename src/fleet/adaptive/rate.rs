//! The rate of arrivals that is likely to go on.

use std::collections::VecDeque;

/// The windows in which arrivals are counted, in seconds.
const WINDOWS: [f64; 6] = [2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Counts the arrivals in several windows.
///
/// A change of the rate shows first in the shortest window in which it exceeds chance, so the rate is the largest lower
/// confidence bound over all windows: `max (n − z·√n) / w` with `n` arrivals in the last `w` seconds, because the number of
/// arrivals of a Poisson process has the standard deviation `√n`.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    recent: VecDeque<(f64, u32)>,
    /// For each window, its arrivals, and how many entries of `recent` are older.
    windows: [(u64, usize); WINDOWS.len()],
}

impl Rate {
    /// Returns the rate at `now`, in arrivals per second. `caution` is `z`.
    pub fn at(&mut self, now: f64, caution: f64) -> f64 {
        self.expire(now);
        let bound = |(arrivals, window): (u64, f64)| (arrivals as f64 - caution * (arrivals as f64).sqrt()) / window;
        self.windows.iter().map(|(arrivals, _)| *arrivals).zip(WINDOWS).map(bound).fold(0.0, f64::max)
    }

    /// Records arrivals.
    pub fn add(&mut self, now: f64, jobs: u32) {
        self.recent.push_back((now, jobs));
        for (arrivals, _) in &mut self.windows {
            *arrivals += u64::from(jobs);
        }
        self.expire(now);
    }

    fn expire(&mut self, now: f64) {
        for ((arrivals, older), window) in self.windows.iter_mut().zip(WINDOWS) {
            while let Some((_, jobs)) = self.recent.get(*older).filter(|(at, _)| *at + window <= now) {
                *arrivals -= u64::from(*jobs);
                *older += 1;
            }
        }
        let [.., (_, oldest)] = self.windows;
        if oldest > 0 {
            self.recent.drain(..oldest);
            for (_, older) in &mut self.windows {
                *older -= oldest;
            }
        }
    }
}

//! Random numbers, each purpose with a stream of its own: two policies on one seed see the same jobs and draw their boots
//! from the same numbers, however many calls each makes.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};
use rand_distr::{Distribution as _, LogNormal};

/// What a stream is for. The number is part of every seed's meaning: do not reuse one.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Arrivals = 1,
    Services = 2,
    Boots = 3,
    Calls = 4,
    Lags = 5,
    Workers = 6,
    Faults = 7,
    Clock = 8,
}

/// A stream of random numbers. ChaCha12 is a fixed algorithm: the same numbers with every version of the library.
pub struct Random(ChaCha12Rng);

impl Random {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// From 0 (included) to 1 (excluded).
    pub fn share(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }

    /// From 0 to `n` - 1; 0 for `n` = 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n < 2 { 0 } else { self.0.random_range(0..n) }
    }

    /// From nothing to `most`, all equally likely.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.share())
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let step: f64 = rand_distr::Exp1.sample(&mut self.0);
        mean.mul_f64(step)
    }

    /// Log-normal with this median.
    pub fn log_normal(&mut self, median: Duration, sigma: f64) -> Duration {
        median.mul_f64(self.log_normal_factor(sigma))
    }

    /// Log-normal with median 1.
    pub fn log_normal_factor(&mut self, sigma: f64) -> f64 {
        // Only a spread that is no number is refused, and settings give none.
        LogNormal::new(0.0, sigma).map_or(1.0, |d| d.sample(&mut self.0))
    }
}

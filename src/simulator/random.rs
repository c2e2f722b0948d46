//! Random numbers, with one stream per purpose.
//!
//! Two policies with the same seed see the same jobs, and draw their boots from the same numbers, however many API calls
//! each of them makes.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};
use rand_distr::{Distribution as _, LogNormal};

/// What a stream is for. Its number is part of the meaning of every seed: a number must not be reused.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Arrivals = 1,
    Services = 2,
    Boots = 3,
    Calls = 4,
    Lags = 5,
    Dispatch = 6,
    Faults = 7,
    Clock = 8,
}

/// A stream of random numbers. ChaCha12 is a fixed algorithm: it gives the same numbers with every version of the library.
pub struct Random(ChaCha12Rng);

impl Random {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        rng.set_stream(purpose as u64);
        Self(rng)
    }

    /// Draws uniformly from [0, 1).
    pub fn fraction(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Returns true with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.fraction() < probability
    }

    /// Draws uniformly from 0 to `n` - 1; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        if n < 2 { 0 } else { self.0.random_range(0..n) }
    }

    /// Draws uniformly from zero to `max`.
    pub fn up_to(&mut self, max: Duration) -> Duration {
        max.mul_f64(self.fraction())
    }

    /// Draws from the exponential distribution.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let step: f64 = rand_distr::Exp1.sample(&mut self.0);
        mean.mul_f64(step)
    }

    /// Draws from the log-normal distribution. `sigma` is the standard deviation of the logarithm.
    pub fn log_normal(&mut self, median: Duration, sigma: f64) -> Duration {
        median.mul_f64(self.log_normal_factor(sigma))
    }

    /// Draws from the log-normal distribution with median 1.
    pub fn log_normal_factor(&mut self, sigma: f64) -> f64 {
        // Only a sigma that is not finite is refused, and the settings allow none.
        LogNormal::new(0.0, sigma).map_or(1.0, |d| d.sample(&mut self.0))
    }
}

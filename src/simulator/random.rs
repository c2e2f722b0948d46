//! Random numbers, with one stream per purpose.
//!
//! Two policies with the same seed see the same jobs, and draw their boots from the same numbers, however many API
//! calls each of them makes.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};
use rand_distr::{Distribution as _, Gamma, LogNormal, Pareto};

/// The purpose of a stream. Its number is part of the meaning of every seed and must not be reused.
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

/// A stream of random numbers. ChaCha12 is a fixed algorithm: it gives the same numbers with every version of the
/// library.
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

    /// Draws from the Gamma distribution. Below a shape of 1, it varies more than the exponential distribution.
    pub fn gamma(&mut self, mean: Duration, shape: f64) -> Duration {
        // Only a shape that is not positive and finite is rejected, and the shapes are constants.
        mean.mul_f64(Gamma::new(shape, 1.0 / shape).map_or(1.0, |d| d.sample(&mut self.0)))
    }

    /// Draws from the Pareto distribution: its tail falls with the power `index`.
    pub fn pareto(&mut self, min: Duration, index: f64) -> Duration {
        // Only an index that is not positive and finite is rejected. A draw beyond ten years is of no use to a trace.
        min.mul_f64(Pareto::new(1.0, index).map_or(1.0, |d| d.sample(&mut self.0)).min(1e6))
    }

    /// Draws from the log-normal distribution. `sigma` is the standard deviation of the logarithm.
    pub fn log_normal(&mut self, median: Duration, sigma: f64) -> Duration {
        median.mul_f64(self.log_normal_factor(sigma))
    }

    /// Draws from the log-normal distribution with median 1.
    pub fn log_normal_factor(&mut self, sigma: f64) -> f64 {
        // Only a sigma that is not finite is rejected, and the settings do not allow that.
        LogNormal::new(0.0, sigma).map_or(1.0, |d| d.sample(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_and_each_purpose_has_a_stream_of_its_own() {
        let draw = |seed, purpose| Random::new(seed, purpose).fraction();
        let purposes = [Purpose::Arrivals, Purpose::Services, Purpose::Boots, Purpose::Calls, Purpose::Lags];
        let purposes = purposes.into_iter().chain([Purpose::Dispatch, Purpose::Faults, Purpose::Clock]);
        let mut first: Vec<f64> = purposes.flat_map(|purpose| [draw(1, purpose), draw(2, purpose)]).collect();
        first.sort_by(f64::total_cmp);
        assert!(first.windows(2).all(|pair| pair[0] < pair[1]), "{first:?}");
        assert_eq!(draw(1, Purpose::Boots), draw(1, Purpose::Boots));
    }

    #[test]
    fn draws_have_the_distribution_they_are_named_for() {
        let mut random = Random::new(1, Purpose::Calls);
        let mut draw = |draw: &dyn Fn(&mut Random) -> f64| {
            let mut all: Vec<f64> = (0..4000).map(|_| draw(&mut random)).collect();
            all.sort_by(f64::total_cmp);
            (all.iter().sum::<f64>() / 4000.0, all[0], all[2000], all[3999])
        };
        let (mean, min, median, max) = draw(&|random| random.up_to(Duration::from_secs(10)).as_secs_f64());
        assert!((4.8..5.2).contains(&mean) && (4.7..5.3).contains(&median) && min < 0.1 && (9.9..=10.0).contains(&max));
        let (mean, _, median, _) = draw(&|random| random.exponential(Duration::from_secs(10)).as_secs_f64());
        assert!((9.5..10.5).contains(&mean) && (6.5..7.4).contains(&median), "{mean}, {median}");
        let (mean, _, median, _) = draw(&|random| random.log_normal(Duration::from_secs(10), 1.0).as_secs_f64());
        assert!((15.0..18.0).contains(&mean) && (9.5..10.5).contains(&median), "{mean}, {median}");
        let (mean, min, _, max) = draw(&|random| random.below(3) as f64);
        assert!((0.95..1.05).contains(&mean) && min == 0.0 && max == 2.0, "{mean}");
        let (mean, ..) = draw(&|random| f64::from(u8::from(random.chance(0.2))));
        assert!((0.18..0.22).contains(&mean), "{mean}");
        assert_eq!((random.below(0), random.below(1), random.chance(0.0), random.chance(1.0)), (0, 0, false, true));
    }
}

//! `gamma-sparse` and `gamma-dense`: renewal processes whose gaps have a Gamma distribution with a coefficient of
//! variation well above 1. Short gaps follow each other, so jobs come in clusters, and single gaps are many times longer
//! than the mean.
//!
//! Arrivals at services of machine-learning models are described this way in Li et al., *AlpaServe* (OSDI '23), and
//! Xiang et al., *ServeGen* (2025). A coefficient of variation c means the shape 1 / c².

use super::processes::hours;
use crate::{Time, random::Random};

/// The parameters of one of the traces.
pub struct Gamma {
    /// Length of the trace.
    pub length: Time,
    /// Mean gap.
    pub mean_gap: Time,
    /// Coefficient of variation of the gaps.
    pub variation: f64,
}

/// A week with a job per minute on average: clusters of some twenty jobs, hours apart at times.
pub const SPARSE: Gamma = Gamma { length: hours(7 * 24), mean_gap: Time::from_secs(60), variation: 5.0 };

/// An hour with two and a half jobs per second on average: clusters that are seconds apart.
pub const DENSE: Gamma = Gamma { length: hours(1), mean_gap: Time::from_millis(400), variation: 4.0 };

/// Draws the arrivals.
pub fn times(gamma: &Gamma, random: &mut Random) -> (Time, Vec<Time>) {
    let shape = gamma.variation.powi(-2);
    let mut at = Time::ZERO;
    let next = std::iter::repeat_with(|| {
        at += random.gamma(gamma.mean_gap, shape);
        at
    });
    (gamma.length, next.take_while(|at| *at < gamma.length).collect())
}

#[cfg(test)]
mod tests {
    use super::{super::statistics::*, *};

    #[test]
    fn the_gaps_have_the_mean_and_the_variation_of_a_clustered_gamma_process() {
        for (name, gamma) in [("gamma-sparse", SPARSE), ("gamma-dense", DENSE)] {
            let all: Vec<Vec<f64>> = (1..=20).map(|seed| draw(name, seed).1).collect();
            let gaps: Vec<f64> = all.iter().flat_map(|times| gaps(times)).collect();
            let expected = gamma.mean_gap.as_secs_f64();
            assert!((0.93..1.07).contains(&(mean(&gaps) / expected)), "{name}: {} s", mean(&gaps));
            let variation = deviation(&gaps) / mean(&gaps);
            assert!((0.93..1.07).contains(&(variation / gamma.variation)), "{name}: {variation}");
            // Of a Gamma distribution with shape k, the share below x tends to (x k / mean)^k / Γ(k + 1) for small x.
            let k = gamma.variation.powi(-2);
            let share = gaps.iter().filter(|gap| **gap < expected * 1e-6).count() as f64 / gaps.len() as f64;
            let limit = (1e-6 * k).powf(k) / (1.0 - 0.577 * k);
            assert!((share / limit - 1.0).abs() < 0.03, "{name}: {share} of the gaps are next to nothing, not {limit}");
            let longest = gaps.iter().copied().fold(0.0, f64::max);
            assert!(longest > 100.0 * expected, "{name}: {longest} s");
        }
    }
}

//! How much boots vary.

use std::collections::VecDeque;

/// Number of quantiles.
const SIZE: usize = 64;
/// Most boots remembered.
const MOST: usize = 256;
/// What is assumed beforehand: so many boots, whose logarithms have this standard deviation, and one of which takes so many
/// times as long.
const ASSUMED: usize = 64;
const SIGMA: f64 = 0.15;
const SLOW: f64 = 2.5;

/// The quantiles of boots in relation to their median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread([f32; SIZE]);

impl Spread {
    /// Boots that are all alike: a price of waiting depends on their mean.
    pub const NONE: Self = Self([1.0; SIZE]);

    /// Returns the factor at a quantile, from 0 to 1.
    pub fn at(&self, quantile: f64) -> f64 {
        f64::from(self.0[((quantile * SIZE as f64) as usize).min(SIZE - 1)])
    }

    /// Returns whether a quantile differs notably.
    pub fn differs(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| (a - b).abs() > 0.2 * a.abs().max(b.abs()))
    }
}

/// The boots that were observed, in relation to their median, together with those that are assumed beforehand.
#[derive(Clone, Debug)]
pub(super) struct Boots {
    ratios: VecDeque<f32>,
    spread: Spread,
}

impl Boots {
    pub fn new() -> Self {
        let mut boots = Self { ratios: VecDeque::new(), spread: Spread::NONE };
        boots.update();
        boots
    }

    pub fn spread(&self) -> Spread {
        self.spread
    }

    /// Records a boot that took so many times the median.
    pub fn add(&mut self, ratio: f64) {
        if self.ratios.len() == MOST {
            self.ratios.pop_front();
        }
        self.ratios.push_back(ratio.clamp(0.1, 100.0) as f32);
        self.update();
    }

    pub fn ratios(&self) -> impl Iterator<Item = f32> {
        self.ratios.iter().copied()
    }

    /// Records several boots.
    pub fn extend(&mut self, ratios: impl Iterator<Item = f32>) {
        self.ratios.extend(ratios.filter(|ratio| ratio.is_finite()).map(|ratio| ratio.clamp(0.1, 100.0)).take(MOST));
        while self.ratios.len() > MOST {
            self.ratios.pop_front();
        }
        self.update();
    }

    fn update(&mut self) {
        let assumed = (0..ASSUMED)
            .map(|n| if n + 1 == ASSUMED { SLOW } else { (SIGMA * normal((n as f64 + 0.5) / ASSUMED as f64)).exp() });
        let mut all: Vec<f32> = assumed.map(|ratio| ratio as f32).chain(self.ratios.iter().copied()).collect();
        all.sort_by(f32::total_cmp);
        let at = |n: usize| all[((n as f64 + 0.5) / SIZE as f64 * all.len() as f64) as usize];
        self.spread = Spread(std::array::from_fn(at));
    }
}

/// Returns a quantile of the standard normal distribution, by Tukey's lambda: the error is below 0.02 in between.
fn normal(quantile: f64) -> f64 {
    4.91 * (quantile.powf(0.14) - (1.0 - quantile).powf(0.14))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_the_boots_that_were_seen_together_with_those_that_are_assumed() {
        let mut boots = Boots::new();
        let assumed = boots.spread();
        assert!((assumed.at(0.5) - 1.0).abs() < 0.01 && (assumed.at(0.84) - 1.16).abs() < 0.02, "{assumed:?}");
        assert_eq!(assumed.at(0.99), SLOW, "one in 64 is slow");
        for n in 0..1000 {
            boots.add(if n % 10 == 0 { 4.0 } else { 1.0 });
        }
        let seen = boots.spread();
        assert!(seen.differs(&assumed) && seen.at(0.85) < 1.2 && seen.at(0.95) == 4.0, "{seen:?}");
        let mut next = Boots::new();
        next.extend(boots.ratios());
        assert_eq!(next.spread(), seen);
    }

    #[test]
    fn the_quantiles_of_the_normal_distribution_are_known() {
        for (quantile, expected) in [(0.5, 0.0), (0.841, 1.0), (0.977, 2.0), (0.023, -2.0)] {
            assert!((normal(quantile) - expected).abs() < 0.02, "{quantile}: {}", normal(quantile));
        }
    }
}

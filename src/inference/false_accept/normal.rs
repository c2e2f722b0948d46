//! The prediction for galleries of a few people, whose own highest similarities say little.

use std::f64::consts::{PI, SQRT_2};

use super::bisection::bisect;

/// Nodes of the integral, and how many standard deviations they reach.
const NODES: usize = 161;
const REACH: f64 = 8.0;

/// Similarities with strangers as they are if those of photos of two people have a normal distribution.
///
/// That of SFace on LFW nearly is one: of 95,460 pairs, the skewness is 0.02 and the kurtosis 2.95. A stranger gets a name
/// if one of all photos is similar enough: with independent ones, with the probability `1 - (1 - P)^n` (J. Daugman, "The
/// importance of being random", Pattern Recognition 36, 2003). The photos of one person are not independent; they are
/// taken as equally correlated normal variables (Y. L. Tong, "The Multivariate Normal Distribution", 1990, section 5.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Normal {
    /// Mean similarity of photos of two people.
    pub mean: f64,
    /// Its standard deviation.
    pub deviation: f64,
    /// People in the gallery.
    pub people: f64,
    /// Mean number of photos of a person.
    pub photos: f64,
    /// Mean similarity of two photos of the same person.
    pub same: f64,
}

impl Normal {
    /// Returns the threshold at which this share of strangers gets a name.
    pub fn threshold(&self, rate: f64) -> f64 {
        bisect(-1.0, 1.0, |threshold| self.rate(threshold) > rate)
    }

    /// Returns the share of strangers that gets a name.
    pub fn rate(&self, threshold: f64) -> f64 {
        -(self.people * (-self.by_one_person(threshold)).ln_1p()).exp_m1()
    }

    /// Returns the probability that a stranger is similar enough to a photo of one person.
    fn by_one_person(&self, threshold: f64) -> f64 {
        let distance = (threshold - self.mean) / self.deviation;
        // Of two photos a and b, the similarities with a stranger correlate as a and b do without what all faces share.
        let correlation = ((self.same - self.mean) / (1.0 - self.mean)).clamp(0.0, 0.99);
        let step = 2.0 * REACH / (NODES - 1) as f64;
        let nodes = (0..NODES).map(|node| -REACH + step * node as f64);
        let sum = nodes.map(|shared| {
            let own = (distance - correlation.sqrt() * shared) / (1.0 - correlation).sqrt();
            let by_any = -(self.photos * (-above(own)).ln_1p()).exp_m1();
            by_any * (-shared * shared / 2.0).exp()
        });
        (sum.sum::<f64>() * step / (2.0 * PI).sqrt()).min(1.0)
    }
}

/// Returns the probability that a standard normal variable is larger.
fn above(value: f64) -> f64 {
    libm::erfc(value / SQRT_2) / 2.0
}

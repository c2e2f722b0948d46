//! The prediction for galleries of many people, from their own highest similarities.

/// Share of the similarities that the tail is fitted to.
const SHARE: f64 = 0.2;
/// Plotting position of Hosking and Wallis.
const POSITION: f64 = 0.35;
/// Similarities above the start of the tail that say as much of its shape as do those that no sample has: an exponential
/// tail. It is a compromise: with none, the estimate for 400 people names twice as many strangers as it should.
const PRIOR: f64 = 50.0;
/// Allowed shapes: bounded above, as similarities are, to a little heavier than exponential. What is beyond comes from a few
/// people who are enrolled under two names.
const SHAPES: (f64, f64) = (-0.4, 0.1);

/// How similar photos are to the nearest photo of another person. If each person of a gallery were a stranger to all
/// others, these would be the similarities that count, whatever their distribution is.
///
/// The upper fifth is fitted by a generalised Pareto distribution, by the method of probability-weighted moments (J. R. M.
/// Hosking and J. R. Wallis, "Parameter and Quantile Estimation for the Generalized Pareto Distribution", Technometrics 29,
/// 1987), which is good for small samples; below it, the sample itself counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Tail {
    /// Ascending.
    nearest: Vec<f32>,
    /// Where the tail begins.
    start: f64,
    scale: f64,
    shape: f64,
}

impl Tail {
    /// Fits the tail to the similarities, of which there is at least one.
    pub fn new(mut nearest: Vec<f32>) -> Self {
        nearest.sort_by(f32::total_cmp);
        let start = quantile(&nearest, 1.0 - SHARE);
        let excesses: Vec<f64> =
            nearest.iter().map(|one| f64::from(*one) - start).filter(|excess| *excess > 0.0).collect();
        let count = excesses.len().max(1) as f64;
        let mean = excesses.iter().sum::<f64>() / count;
        let weighted =
            excesses.iter().enumerate().map(|(i, excess)| (1.0 - (i as f64 + 1.0 - POSITION) / count) * excess);
        let weighted = weighted.sum::<f64>() / count;
        let shape = 2.0 - mean / (mean - 2.0 * weighted);
        let shape = if shape.is_finite() { shape.clamp(SHAPES.0, SHAPES.1) * count / (count + PRIOR) } else { 0.0 };
        Self { nearest, start, scale: mean * (1.0 - shape), shape }
    }

    /// Returns the threshold at which this share of strangers gets a name.
    pub fn threshold(&self, rate: f64) -> f64 {
        if rate >= SHARE {
            return quantile(&self.nearest, 1.0 - rate);
        }
        let ratio = (SHARE / rate).ln();
        // Without the difference of two numbers that are nearly equal, if the shape is nearly 0.
        let excess = if self.shape == 0.0 { ratio } else { (self.shape * ratio).exp_m1() / self.shape };
        self.start + self.scale * excess
    }
}

/// Returns a quantile of ascending numbers, of which there is at least one, by linear interpolation.
fn quantile(ascending: &[f32], share: f64) -> f64 {
    let position = share.clamp(0.0, 1.0) * (ascending.len() - 1) as f64;
    let [low, high] = [position.floor(), position.ceil()].map(|at| f64::from(ascending[at as usize]));
    low + (high - low) * position.fract()
}

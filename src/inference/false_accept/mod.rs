//! How similar strangers are to the people of a gallery, predicted from how similar these are to one another.
//!
//! The more people a gallery has, the more similar is the one who is most similar to a stranger. [`ScoreModel`] predicts
//! which share of strangers reaches a threshold. `docs/accuracy.md` has the formulas and what was measured with them.

mod bisection;
mod normal;
mod tail;

use bisection::bisect;
use normal::Normal;
use tail::Tail;

/// Mean and standard deviation of the similarity of photos of two people, and the mean of two photos of one, of SFace:
/// measured on 440 photos of 160 people of LFW (95,460 pairs of different people). They count as much as the gallery does
/// if this has [`COHORT_PEOPLE`] people.
const COHORT: Cohort = Cohort { different: (0.09, 0.09), same: 0.66 };
/// See [`COHORT`].
const COHORT_PEOPLE: f64 = 20.0;
/// People in a gallery of which the prediction is, to one half, what its own highest similarities say.
const TAIL_PEOPLE: f64 = 150.0;
/// Fewest similarities from which a tail is estimated.
const MIN_NEAREST: usize = 50;
/// Lowest rate that is told apart from 0.
const MIN_RATE: f64 = 1e-9;

struct Cohort {
    different: (f64, f64),
    same: f64,
}

/// Sums of similarities and of their squares.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// How many there are.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Sums {
    /// Adds a similarity.
    pub fn add(&mut self, similarity: f32) {
        let similarity = f64::from(similarity);
        self.count += 1.0;
        self.sum += similarity;
        self.squares += similarity * similarity;
    }
}

/// What is known of the similarities in a gallery. They are cosines, -1 to 1.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    /// People in the gallery.
    pub people: usize,
    /// Photos in the gallery.
    pub photos: usize,
    /// Similarities of photos of different people, of a sample.
    pub different: Sums,
    /// Similarities of photos of the same person, of a sample.
    pub same: Sums,
    /// The similarity of each photo of a sample with the nearest photo of another person, in the whole gallery.
    pub nearest: Vec<f32>,
}

/// Predicts how many strangers a threshold names.
#[derive(Clone, Debug)]
pub struct ScoreModel {
    normal: Normal,
    tail: Option<Tail>,
    /// Weight of the tail, 0 to 1.
    weight: f64,
}

impl ScoreModel {
    /// Learns from the scores of a gallery; of one with a few people, little.
    pub fn new(scores: &Scores) -> Self {
        let people = scores.people.max(1) as f64;
        let own = people / (people + COHORT_PEOPLE);
        let of_cohort = (COHORT.different.0, COHORT.different.0.powi(2) + COHORT.different.1.powi(2));
        let mean = blended(own, scores.different.sum, scores.different.count, of_cohort.0);
        let squares = blended(own, scores.different.squares, scores.different.count, of_cohort.1);
        let same = blended(own, scores.same.sum, scores.same.count, COHORT.same);
        let photos = (scores.photos as f64 / people).max(1.0);
        // What is known of the mean is uncertain, too: the variance of a prediction from so many people.
        let uncertainty = 1.0 + 1.0 / (people + COHORT_PEOPLE);
        let deviation = ((squares - mean * mean).max(1e-6) * uncertainty).sqrt();
        let tail = (scores.nearest.len() >= MIN_NEAREST).then(|| Tail::new(scores.nearest.clone()));
        let weight = people.powi(2) / (people.powi(2) + TAIL_PEOPLE.powi(2));
        Self {
            normal: Normal { mean, deviation, people, photos, same },
            weight: if tail.is_some() { weight } else { 0.0 },
            tail,
        }
    }

    /// Returns the lowest threshold at which at most this share of strangers, 0 to 1, is predicted to get a name.
    pub fn threshold(&self, rate: f64) -> f32 {
        let rate = rate.clamp(MIN_RATE, 1.0);
        let normal = self.normal.threshold(rate);
        let tail = self.tail.as_ref().map_or(normal, |tail| tail.threshold(rate));
        (self.weight * tail + (1.0 - self.weight) * normal).clamp(-1.0, 1.0) as f32
    }

    /// Returns the share of strangers, 0 to 1, that is predicted to get a name at this threshold.
    pub fn rate(&self, threshold: f32) -> f64 {
        bisect(MIN_RATE.ln(), 0.0, |log_rate| self.threshold(log_rate.exp()) > threshold).exp()
    }
}

/// Returns the mean of a sample, blended with that of the cohort.
fn blended(own: f64, sum: f64, count: f64, of_cohort: f64) -> f64 {
    if count > 0.0 { own * sum / count + (1.0 - own) * of_cohort } else { of_cohort }
}

#[cfg(test)]
mod tests;

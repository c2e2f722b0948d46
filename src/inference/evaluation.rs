//! Measures the accuracy of a model and a threshold on labelled embeddings.

use serde::Serialize;

use super::{
    embeddings::similarity::dot,
    gallery::{Person, Refused, in_memory},
};
use crate::{recognition::ModelId, settings::Threshold};

/// The largest face of a photo, with its label.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name of the person.
    pub person: String,
    /// Unit length.
    pub embedding: Vec<f32>,
}

/// The measured rates, 0 to 1; `None` if there was nothing to count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Deciding whether two photos are of the same person.
    pub verification: Option<Verification>,
    /// Probes whose nearest photo is of the same person, at any similarity.
    pub identification: Option<f32>,
    /// The similarity threshold of the following rates.
    pub threshold: f32,
    /// The share of strangers with a name that the similarities among the known people predict for this threshold.
    pub predicted_strangers_named: f64,
    /// Probes with the right name.
    pub known_named_right: Option<f32>,
    /// Probes with another person's name.
    pub known_named_wrong: Option<f32>,
    /// Strangers with a name: the false-accept rate.
    pub strangers_named: Option<f32>,
    /// Number of enrolled photos.
    pub known: usize,
    /// Number of other photos of the same people.
    pub probes: usize,
    /// Number of photos of other people.
    pub strangers: usize,
}

/// How well pairs of photos of the same person are distinguished from pairs of two people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Pairs of photos of the same person.
    pub same: usize,
    /// Pairs of photos of two people.
    pub different: usize,
    /// Mean of the true-positive rate and the true-negative rate at the best threshold.
    pub balanced_accuracy: f32,
    /// The threshold with the highest balanced accuracy.
    pub best_threshold: f32,
    /// True-accept rate at the lowest threshold whose false-accept rate is at most 1e-3.
    pub tar_at_far_1e3: f32,
}

/// The largest faces of labelled photos, all embedded by one model.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The model of the embeddings.
    pub model: ModelId,
    /// To be enrolled.
    pub known: Vec<Sample>,
    /// Other photos of the same people.
    pub probes: Vec<Sample>,
    /// Photos of other people.
    pub strangers: Vec<Sample>,
}

impl Samples {
    /// Enrols the known people, and evaluates probes and strangers at `threshold`. Verification is on all pairs among
    /// known photos and probes.
    ///
    /// # Errors
    /// The gallery rejects a name or an embedding.
    pub fn evaluate(&self, threshold: impl Into<Threshold>) -> Result<Report, Refused> {
        let Self { model, known, probes, strangers } = self;
        let enrolled: Vec<Person> =
            known.iter().map(|s| Person::new(s.person.clone(), vec![s.embedding.clone()])).collect();
        let gallery = in_memory(enrolled, model)?;
        let threshold = gallery.threshold(threshold.into());

        let (mut nearest_right, mut named_right, mut named_wrong, mut strangers_named) = (0, 0, 0, 0);
        for probe in probes {
            if let Some((name, similarity)) = gallery.nearest(&probe.embedding)? {
                let right = name == probe.person;
                let named = similarity >= threshold;
                nearest_right += usize::from(right);
                named_right += usize::from(right && named);
                named_wrong += usize::from(!right && named);
            }
        }
        for stranger in strangers {
            let named = gallery.nearest(&stranger.embedding)?.is_some_and(|(_, similarity)| similarity >= threshold);
            strangers_named += usize::from(named);
        }
        let all: Vec<&Sample> = known.iter().chain(probes).collect();
        Ok(Report {
            verification: verification(&all),
            identification: share(nearest_right, probes.len()),
            threshold,
            predicted_strangers_named: gallery.predicted_false_accept(threshold),
            known_named_right: share(named_right, probes.len()),
            known_named_wrong: share(named_wrong, probes.len()),
            strangers_named: share(strangers_named, strangers.len()),
            known: known.len(),
            probes: probes.len(),
            strangers: strangers.len(),
        })
    }
}

fn share(count: usize, of: usize) -> Option<f32> {
    (of > 0).then(|| count as f32 / of as f32)
}

/// Evaluates all pairs. `None` without a pair of each kind.
fn verification(samples: &[&Sample]) -> Option<Verification> {
    let mut pairs = Vec::with_capacity(samples.len() * samples.len() / 2);
    for (i, a) in samples.iter().enumerate() {
        for b in &samples[i + 1..] {
            pairs.push((dot(&a.embedding, &b.embedding), a.person == b.person));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let same = pairs.iter().filter(|(_, same)| *same).count();
    let different = pairs.len() - same;
    if same == 0 || different == 0 {
        return None;
    }
    // The threshold is lowered from pair to pair: all pairs up to the current one are accepted.
    let mut best = (0.0, f32::INFINITY);
    let (mut accepted_same, mut accepted_different, mut tar) = (0, 0, 0.0);
    for (i, &(similarity, is_same)) in pairs.iter().enumerate() {
        accepted_same += usize::from(is_same);
        accepted_different += usize::from(!is_same);
        if pairs.get(i + 1).is_some_and(|next| next.0 == similarity) {
            continue;
        }
        let true_rate = accepted_same as f32 / same as f32;
        let false_rate = accepted_different as f32 / different as f32;
        let balanced = (true_rate + 1.0 - false_rate) / 2.0;
        if balanced > best.0 {
            best = (balanced, similarity);
        }
        if false_rate <= 1e-3 {
            tar = true_rate;
        }
    }
    Some(Verification { same, different, balanced_accuracy: best.0, best_threshold: best.1, tar_at_far_1e3: tar })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(known: &[Sample], probes: &[Sample], strangers: &[Sample], threshold: f32) -> Result<Report, Refused> {
        let [known, probes, strangers] = [known, probes, strangers].map(<[Sample]>::to_vec);
        Samples { model: ModelId::known("m"), known, probes, strangers }.evaluate(threshold)
    }

    /// Returns a two-dimensional embedding at an angle.
    fn at(person: &str, degrees: f32) -> Sample {
        let angle = degrees.to_radians();
        Sample { person: person.into(), embedding: vec![angle.cos(), angle.sin()] }
    }

    #[test]
    fn rates_are_computed_over_probes_and_strangers() {
        let known = [at("ada", 0.0), at("bob", 90.0)];
        let probes = [at("ada", 10.0), at("ada", 40.0), at("bob", 20.0), at("bob", 95.0)];
        let strangers = [at("x", 5.0), at("y", 180.0), at("z", 45.0), at("w", 250.0)];
        let report = evaluate(&known, &probes, &strangers, 30.0_f32.to_radians().cos()).unwrap();
        assert_eq!(report.identification, Some(0.75));
        assert_eq!(report.known_named_right, Some(0.5));
        assert_eq!(report.known_named_wrong, Some(0.25));
        assert_eq!(report.strangers_named, Some(0.25));
    }

    #[test]
    fn separable_pairs_are_verified_without_a_mistake() {
        let known = [at("ada", 0.0), at("bob", 90.0)];
        let report = evaluate(&known, &[at("ada", 20.0), at("bob", 80.0)], &[], 0.5).unwrap();
        let verification = report.verification.unwrap();
        assert_eq!((verification.same, verification.different), (2, 4));
        assert_eq!((verification.balanced_accuracy, verification.tar_at_far_1e3), (1.0, 1.0));
        assert!((verification.best_threshold - 20.0_f32.to_radians().cos()).abs() < 1e-6);
    }

    #[test]
    fn inseparable_pairs_count_against_both_sides() {
        // The only pair of the same person is less similar than half of the others.
        let report = evaluate(&[at("ada", 0.0)], &[at("bob", 10.0), at("ada", 60.0)], &[], 0.5).unwrap();
        let verification = report.verification.unwrap();
        assert_eq!((verification.same, verification.different), (1, 2));
        assert_eq!((verification.balanced_accuracy, verification.tar_at_far_1e3), (0.5, 0.0));
    }

    #[test]
    fn the_threshold_for_a_name_is_inclusive() {
        let known = [at("ada", 0.0)];
        let far = evaluate(&known, &[at("ada", 40.0), at("bob", 40.0)], &[at("x", 40.0)], 0.9).unwrap();
        assert_eq!(
            (far.known_named_right, far.known_named_wrong, far.strangers_named),
            (Some(0.0), Some(0.0), Some(0.0))
        );
        assert_eq!(far.identification, Some(0.5), "at any similarity");
        let same = evaluate(&known, &[at("ada", 0.0), at("bob", 0.0)], &[at("x", 0.0)], 1.0).unwrap();
        assert_eq!((same.known_named_right, same.known_named_wrong), (Some(0.5), Some(0.5)));
        assert_eq!(same.strangers_named, Some(1.0));
    }

    #[test]
    fn pairs_of_the_same_similarity_are_accepted_together() {
        let report = evaluate(&[at("ada", 0.0)], &[at("ada", 0.0), at("bob", 0.0)], &[], 0.5).unwrap();
        let verification = report.verification.unwrap();
        assert_eq!((verification.same, verification.different), (1, 2));
        assert_eq!((verification.balanced_accuracy, verification.tar_at_far_1e3), (0.5, 0.0));
    }

    #[test]
    fn without_samples_there_are_no_rates() {
        let report = evaluate(&[], &[], &[], 0.5).unwrap();
        assert_eq!((report.verification, report.identification, report.strangers_named), (None, None, None));
    }
}

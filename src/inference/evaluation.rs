//! How good a model and a threshold are, from embeddings whose people are known.

use serde::Serialize;

use super::gallery::{Gallery, Person, Refused};

/// A photo's largest face and who it is.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Who it is.
    pub person: String,
    /// Unit length.
    pub embedding: Vec<f32>,
}

/// Rates are shares of 1; `None` where there was nothing to count.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Are these two photos of one person?
    pub verification: Option<Verification>,
    /// Probes whose nearest photo is of the same person, whatever the similarity.
    pub identification: Option<f32>,
    /// The threshold of what follows.
    pub threshold: f32,
    /// Probes of known people given the right name.
    pub known_named_right: Option<f32>,
    /// Probes of known people given somebody else's name.
    pub known_named_wrong: Option<f32>,
    /// Strangers given a name: the false-accept rate.
    pub strangers_named: Option<f32>,
    /// Photos that were enrolled.
    pub known: usize,
    /// Photos of the same people that were not.
    pub probes: usize,
    /// Photos of others.
    pub strangers: usize,
}

/// How well two photos of one person are told from photos of two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// Pairs of photos of one person, and of two.
    pub same: usize,
    /// Pairs of photos of two people.
    pub different: usize,
    /// Mean of the shares of `same` and of `different` pairs told right, at the best threshold.
    pub balanced_accuracy: f32,
    /// That threshold.
    pub best_threshold: f32,
    /// Share of `same` pairs accepted where at most one in a thousand of `different` is (TAR at FAR 1e-3).
    pub tar_at_far_1e3: f32,
}

/// Evaluates with `known` enrolled. Verification is over all pairs of two of the `known` and `probes`.
///
/// # Errors
/// Embeddings or names that a gallery does not take.
pub fn evaluate(known: &[Sample], probes: &[Sample], strangers: &[Sample], threshold: f32) -> Result<Report, Refused> {
    let enrolled: Vec<Person> =
        known.iter().map(|s| Person { name: s.person.clone(), embeddings: vec![s.embedding.clone()] }).collect();
    let gallery = Gallery::default().with(&enrolled, usize::MAX, usize::MAX)?.unwrap_or_default();

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
        known_named_right: share(named_right, probes.len()),
        known_named_wrong: share(named_wrong, probes.len()),
        strangers_named: share(strangers_named, strangers.len()),
        known: known.len(),
        probes: probes.len(),
        strangers: strangers.len(),
    })
}

fn share(count: usize, of: usize) -> Option<f32> {
    (of > 0).then(|| count as f32 / of as f32)
}

/// `None` without a pair of each kind.
fn verification(samples: &[&Sample]) -> Option<Verification> {
    let mut pairs = Vec::with_capacity(samples.len() * samples.len() / 2);
    for (i, a) in samples.iter().enumerate() {
        for b in &samples[i + 1..] {
            let similarity: f32 = a.embedding.iter().zip(&b.embedding).map(|(x, y)| x * y).sum();
            pairs.push((similarity, a.person == b.person));
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let same = pairs.iter().filter(|(_, same)| *same).count();
    let different = pairs.len() - same;
    if same == 0 || different == 0 {
        return None;
    }
    // Lowering the threshold from pair to pair: everything up to and including a pair is accepted.
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

    /// A sample in the plane, at an angle.
    fn at(person: &str, degrees: f32) -> Sample {
        let angle = degrees.to_radians();
        Sample { person: person.into(), embedding: vec![angle.cos(), angle.sin()] }
    }

    #[test]
    fn rates_count_what_they_say() {
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
        // The one pair of the same person is less alike than half of the others.
        let report = evaluate(&[at("ada", 0.0)], &[at("bob", 10.0), at("ada", 60.0)], &[], 0.5).unwrap();
        let verification = report.verification.unwrap();
        assert_eq!((verification.same, verification.different), (1, 2));
        assert_eq!((verification.balanced_accuracy, verification.tar_at_far_1e3), (0.5, 0.0));
    }

    #[test]
    fn nothing_is_claimed_of_nothing() {
        let report = evaluate(&[], &[], &[], 0.5).unwrap();
        assert_eq!((report.verification, report.identification, report.strangers_named), (None, None, None));
    }
}

//! The prediction, on scores whose distribution is known.

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::ChaCha8Rng};

use super::*;

/// Scores of a gallery without anybody's own.
fn small(people: usize) -> Scores {
    Scores { people, photos: people, ..Scores::default() }
}

/// Scores of a gallery whose nearest photos have that many similarities, from 0.2 on, exponentially distributed.
fn exponential(people: usize, scale: f32) -> Scores {
    let nearest = (0..people).map(|i| 0.2 - scale * ((i as f32 + 0.5) / people as f32).ln());
    Scores { nearest: nearest.collect(), ..small(people) }
}

#[test]
fn without_own_scores_those_of_the_cohort_count() {
    // P(z > 4) is 3.167e-5 (tables of the normal distribution).
    for people in [1, 10, 40] {
        let uncertainty = 1.0 + 1.0 / (people as f64 + COHORT_PEOPLE);
        let four_deviations = COHORT.different.0 + 4.0 * COHORT.different.1 * uncertainty.sqrt();
        let rate = ScoreModel::new(&small(people)).normal.rate(four_deviations);
        assert!((rate / (3.167e-5 * people as f64) - 1.0).abs() < 0.01, "{people}: {rate}");
    }
}

#[test]
fn photos_of_one_person_count_as_less_than_as_many_people() {
    let rate = |people, photos| ScoreModel::new(&Scores { people, photos, ..Scores::default() }).rate(0.45);
    let (one, three) = (rate(10, 10), rate(10, 30));
    assert!(one * 1.2 < three && three < one * 2.95, "{one} {three}");
}

#[test]
fn in_a_large_gallery_its_own_highest_scores_count() {
    let model = ScoreModel::new(&exponential(4_000, 0.05));
    // The quantile of an exponential distribution.
    let expected = 0.2 - 0.05 * 0.003_f32.ln();
    assert!((model.threshold(0.003) - expected).abs() < 0.005, "{}", model.threshold(0.003));
    assert!((model.rate(expected) / 0.003 - 1.0).abs() < 0.15, "{}", model.rate(expected));
}

#[test]
fn a_few_people_who_are_known_by_two_names_change_little() {
    let mut scores = exponential(1_000, 0.03);
    let without = ScoreModel::new(&scores).threshold(0.003);
    scores.nearest[500..503].fill(0.95);
    let with = ScoreModel::new(&scores).threshold(0.003);
    assert!((with - without).abs() < 0.1, "{without}, and {with} with them");
}

#[test]
fn scores_that_are_all_the_same_have_a_threshold_too() {
    for nearest in [vec![0.3; 60], vec![1.0; 60], vec![-1.0; 60]] {
        let threshold = ScoreModel::new(&Scores { nearest, ..small(4_000) }).threshold(0.003);
        assert!((-1.0..=1.0).contains(&threshold), "{threshold}");
    }
}

proptest! {
    #[test]
    fn a_lower_rate_needs_a_higher_threshold_and_is_predicted_for_it(
        seed in any::<u64>(), people in 1_usize..20_000, nearest in 0_usize..300, rate in 1e-5..0.5,
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut scores = small(people);
        for _ in 0..200 {
            scores.different.add(random.random_range(-0.2..0.5));
            scores.same.add(random.random_range(0.3..1.0));
        }
        scores.nearest = (0..nearest).map(|_| random.random_range(-1.0..=1.0)).collect();
        let model = ScoreModel::new(&scores);
        let threshold = model.threshold(rate);
        prop_assert!((-1.0..=1.0).contains(&threshold));
        prop_assert!(model.threshold(rate / 2.0) >= threshold);
        let predicted = model.rate(threshold);
        prop_assert!((model.threshold(predicted) - threshold).abs() < 1e-3, "{threshold}: {predicted}");
    }
}

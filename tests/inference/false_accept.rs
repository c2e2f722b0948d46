//! With `recognition.threshold = "auto"`, as many strangers get a name as is allowed, however many people a gallery has.

use std::path::PathBuf;

use crate::{
    population::{Kind, Population},
    support::{lfw, model, settings},
};
use rand::{SeedableRng as _, rngs::ChaCha8Rng, seq::SliceRandom as _};
use rollcall::{
    cli::evaluate::{Args, evaluate},
    inference::{
        evaluation::{Sample, Samples},
        gallery::{Gallery, Person, in_memory},
    },
    settings::Threshold,
};

const ALLOWED: f64 = 0.003;
const AUTO: Threshold = Threshold::MaxFalseAccept(ALLOWED);

async fn samples(dir: PathBuf) -> Samples {
    evaluate(&Args { dir, threads: None, json: false }, &settings()).await.expect("evaluated").samples
}

fn everybody(samples: &Samples) -> Vec<&Sample> {
    samples.known.iter().chain(&samples.probes).chain(&samples.strangers).collect()
}

fn gallery(people: Vec<Person>) -> Gallery {
    in_memory(people, &model("sface-2021dec")).expect("a gallery")
}

/// Returns the share of photos that are similar enough to somebody.
fn named(gallery: &Gallery, photos: &[Vec<f32>], threshold: f32) -> f64 {
    let near = |photo: &&Vec<f32>| gallery.nearest(photo).expect("comparable").is_some_and(|(_, s)| s >= threshold);
    photos.iter().filter(near).count() as f64 / photos.len() as f64
}

/// Returns the share of strangers who are named, on average over some galleries.
fn measured(population: &mut Population, people: usize, galleries: usize, strangers: usize) -> f64 {
    let rates = (0..galleries).map(|_| {
        let gallery = gallery(population.gallery(people, 2));
        let strangers: Vec<_> = (0..strangers).flat_map(|_| population.photos(1)).collect();
        named(&gallery, &strangers, gallery.threshold(AUTO))
    });
    rates.sum::<f64>() / galleries as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_twice_as_many_strangers_are_named_as_allowed_in_galleries_of_any_size() {
    let Some(lfw) = lfw() else { return };
    let samples = samples(lfw).await;
    let real: Vec<_> = everybody(&samples).into_iter().map(|sample| sample.embedding.clone()).collect();
    let kinds = [Kind::Turned(0.5), Kind::Turned(0.7), Kind::Mixed, Kind::Moved];
    std::thread::scope(|scope| {
        for (seed, kind) in kinds.into_iter().enumerate() {
            let mut population = Population::new(real.clone(), kind, seed as u64);
            scope.spawn(move || {
                for (people, galleries, strangers) in [(400, 4, 2_000), (4_000, 1, 3_000)] {
                    let rate = measured(&mut population, people, galleries, strangers);
                    println!("{kind:?}, {people} people: {:.2} % of strangers named", 100.0 * rate);
                    assert!(rate <= 2.0 * ALLOWED, "{kind:?}, {people} people: {rate}");
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_known_strangers_stay_unknown_and_known_people_are_named() {
    let Some(lfw) = lfw() else { return };
    let samples = samples(lfw).await;
    let (mut known_right, mut strangers_named) = (Vec::new(), Vec::new());
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut names: Vec<&str> = samples.known.iter().map(|sample| sample.person.as_str()).collect();
    names.dedup();
    for people in [5, 10, 20, 40] {
        for _ in 0..40 / people {
            names.shuffle(&mut random);
            let is_known = |sample: &&&Sample| names[..people].contains(&sample.person.as_str());
            let of = |samples: &[Sample]| {
                samples.iter().collect::<Vec<_>>().iter().filter(is_known).map(|s| (*s).clone()).collect()
            };
            let strangers = everybody(&samples).into_iter().filter(|sample| !is_known(&sample)).cloned().collect();
            let (known, probes) = (of(&samples.known), of(&samples.probes));
            let rotated = Samples { model: samples.model.clone(), known, probes, strangers };
            let report = rotated.evaluate(AUTO).expect("evaluated");
            println!("{people} people: {report:?}");
            known_right.push(f64::from(report.known_named_right.expect("probes")));
            strangers_named.push(f64::from(report.strangers_named.expect("strangers")));
        }
    }
    let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
    assert!(mean(&strangers_named) <= ALLOWED, "{strangers_named:?}");
    assert!(mean(&known_right) >= 0.985, "{known_right:?}");
}

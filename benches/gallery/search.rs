//! The search itself: its time, and how often it finds the name that the exact scan finds.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt as _};
use rollcall_embeddings::{
    index::{Builder, Index},
    similarity::nearest,
};

use super::population::{DIMENSION, Population};

/// Similarities from which a face gets a name.
const THRESHOLDS: [f32; 6] = [0.45, 0.50, 0.55, 0.58, 0.60, 0.62];

/// Names `faces` faces by the index and by the exact scan, and prints the results.
pub fn measure(
    population: &Population,
    people: &[[f32; DIMENSION]],
    rows: &[f32],
    faces: usize,
    mut rng: &mut impl Rng,
) -> anyhow::Result<()> {
    let photos = rows.len() / DIMENSION / people.len();
    let probes: Vec<_> = (0..faces)
        .map(|i| {
            let stranger = population.person(&mut rng);
            let known = &people[rng.random_range(0..people.len())];
            population.photo(if i % 2 == 0 { known } else { &stranger }, &mut rng)
        })
        .collect();
    let (index, took) = timed(|| build(rows, photos));
    let index = index?;
    println!("index built in {:.1} s", took.as_secs_f64());
    let (mut exact, mut by_index) = (Vec::new(), Vec::new());
    let (mut scans, mut searches) = (Vec::new(), Vec::new());
    for probe in &probes {
        let (found, took) = timed(|| index.search(probe, |_| false));
        searches.push(took);
        by_index.push(found.map(|found| (found.owner as usize, found.similarity)));
    }
    for probe in &probes {
        let (found, took) = timed(|| nearest(rows, probe));
        scans.push(took);
        exact.push(found.map(|(row, similarity)| (row / photos, similarity)));
    }
    println!("exact scan  {}", quantiles(&mut scans));
    println!("index       {}", quantiles(&mut searches));
    println!("threshold   same name as the exact scan   of known faces   strangers named by the exact scan");
    for threshold in THRESHOLDS {
        let name = |found: Option<(usize, f32)>| found.filter(|(_, s)| *s >= threshold).map(|(owner, _)| owner);
        let rate = |hits: &dyn Fn(usize) -> bool, of: &dyn Fn(usize) -> bool| {
            let counted: Vec<usize> = (0..probes.len()).filter(|i| of(*i)).collect();
            100.0 * counted.iter().filter(|i| hits(**i)).count() as f64 / counted.len() as f64
        };
        let same = |i: usize| name(exact[i]) == name(by_index[i]);
        let (known, stranger) = (|i: usize| i.is_multiple_of(2), |i: usize| !i.is_multiple_of(2));
        println!(
            "{threshold:>9.2}   {:>25.2} %   {:>12.2} %   {:>30.2} %",
            rate(&same, &|_| true),
            rate(&same, &known),
            rate(&|i| name(exact[i]).is_some(), &stranger)
        );
    }
    Ok(())
}

fn build(rows: &[f32], photos: usize) -> anyhow::Result<Index> {
    let mut builder = Builder::new(tempfile::tempfile()?, DIMENSION)?;
    for (person, photos) in rows.chunks(photos * DIMENSION).enumerate() {
        builder.add(&format!("person {person}"), photos)?;
    }
    Ok(builder.finish(b"", &mut rand::rng())?)
}

#[expect(clippy::disallowed_methods, reason = "measures")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.3} ms, p99 {:.3} ms", at(0.5), at(0.99))
}

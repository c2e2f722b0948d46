//! `cargo bench --bench gallery`: names faces from a gallery of a million embeddings, by the index and by the exact scan.
//!
//! The embeddings are drawn at random and clustered as SFace's are; see [`Population`]. Half of the probes are of people
//! in the gallery, the others of strangers.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use clap::Parser as _;
use rand::{Rng, RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};
use rollcall_embeddings::{
    index::{Builder, Index},
    similarity::{nearest, normalise},
};

/// Length of SFace's embeddings.
const DIMENSION: usize = 128;
/// Similarities from which a face gets a name.
const THRESHOLDS: [f32; 6] = [0.45, 0.50, 0.55, 0.58, 0.60, 0.62];

#[derive(clap::Parser)]
struct Args {
    /// People in the gallery.
    #[arg(long, default_value_t = 100_000)]
    people: usize,
    /// Photos of each.
    #[arg(long, default_value_t = 10)]
    photos: usize,
    /// Faces to be named.
    #[arg(long, default_value_t = 2_000)]
    probes: usize,
    /// Seed of the random numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The distribution of SFace's embeddings, measured on 440 photos of 160 people of LFW: variances between people and
/// within a person, which fall exponentially from one principal direction to the next, and the length of the mean.
/// Photos differ in quality, so the variance within a person is scaled at random. Similarities of two photos of a person
/// are then 0.67 ± 0.08 (measured: 0.66 ± 0.09), and of two people 0.08 ± 0.10 (0.09 ± 0.09).
struct Population {
    between: [f32; DIMENSION],
    within: [f32; DIMENSION],
}

/// Length of the mean embedding.
const MEAN: f32 = 0.295;
/// Standard deviation of the logarithm of a photo's deviation from its person.
const QUALITY: f32 = 0.2;

impl Population {
    fn new() -> Self {
        let variances = |total: f32, decay: f32| {
            let weights: [f32; DIMENSION] = std::array::from_fn(|i| (-(i as f32) / decay).exp());
            weights.map(|weight| total * weight / weights.iter().sum::<f32>())
        };
        let (all, within) = (variances(0.919, 36.0), variances(0.336, 45.0));
        let between = std::array::from_fn(|i| (all[i] - within[i]).max(0.0).sqrt());
        Self { between, within: within.map(f32::sqrt) }
    }

    fn person(&self, rng: &mut impl Rng) -> [f32; DIMENSION] {
        // The direction of the mean does not matter; here it is the same in all coordinates.
        self.between.map(|deviation| MEAN / (DIMENSION as f32).sqrt() + deviation * normal(rng))
    }

    fn photo(&self, person: &[f32; DIMENSION], rng: &mut impl Rng) -> [f32; DIMENSION] {
        let quality = (QUALITY * normal(rng)).exp();
        let mut photo = std::array::from_fn(|i| person[i] + quality * self.within[i] * normal(rng));
        assert!(normalise(&mut photo));
        photo
    }
}

/// A number of the standard normal distribution (Box and Muller 1958).
fn normal(rng: &mut impl Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (population, mut rng) = (Population::new(), ChaCha12Rng::seed_from_u64(args.seed));
    let people: Vec<_> = (0..args.people).map(|_| population.person(&mut rng)).collect();
    let rows: Vec<f32> = people
        .iter()
        .flat_map(|person| (0..args.photos).map(|_| population.photo(person, &mut rng)).collect::<Vec<_>>())
        .flatten()
        .collect();
    let probes: Vec<_> = (0..args.probes)
        .map(|i| {
            let stranger = population.person(&mut rng);
            let known = &people[rng.random_range(0..people.len())];
            population.photo(if i % 2 == 0 { known } else { &stranger }, &mut rng)
        })
        .collect();
    drop(people);
    println!("{} people with {} photos each, {} faces", args.people, args.photos, args.probes);

    let (index, took) = timed(|| build(&rows, args.photos));
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
        let (found, took) = timed(|| nearest(&rows, probe));
        scans.push(took);
        exact.push(found.map(|(row, similarity)| (row / args.photos, similarity)));
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
    std::io::stdout().flush()?;
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

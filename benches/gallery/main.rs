//! `cargo bench --bench gallery`: names faces from a gallery of a million embeddings, by the index and by the exact scan;
//! and serves such a gallery, and measures how soon a change is known to all workers and what it moves.
//!
//! The embeddings are drawn at random and clustered as SFace's are; see [`population`]. Half of the probes are of people
//! in the gallery, the others of strangers.

mod population;
mod search;
mod served;

use clap::Parser as _;
use rand::{SeedableRng as _, rngs::ChaCha12Rng};

use population::{DIMENSION, Population};

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
    /// Measure only the search, without a server.
    #[arg(long)]
    search_only: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[actix::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (population, mut rng) = (Population::new(), ChaCha12Rng::seed_from_u64(args.seed));
    let centres: Vec<[f32; DIMENSION]> = (0..args.people).map(|_| population.person(&mut rng)).collect();
    let rows: Vec<f32> = centres
        .iter()
        .flat_map(|person| (0..args.photos).map(|_| population.photo(person, &mut rng)).collect::<Vec<_>>())
        .flatten()
        .collect();
    println!("{} people with {} photos each", args.people, args.photos);
    search::measure(&population, &centres, &rows, args.probes, &mut rng)?;
    drop(centres);
    if !args.search_only {
        served::measure(rows, args.photos).await?;
    }
    Ok(())
}

//! `rollcall tune`: searches thresholds and policies in the simulator.

mod candidate;
mod config_file;
mod frontier;
mod page;
mod search;
mod text;
mod trial;
mod tuned;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{exit::EXIT_CONFIG, fleet::recorded, parallel};
use crate::{
    app,
    settings::{Layers, Settings, SettingsError},
    simulator::{Service, Trace},
};
use frontier::{Goal, frontier};
use search::{Found, search};
use trial::Cloud;
use tuned::Tuned;

/// Search for better thresholds in a simulated cloud.
///
/// Simulates many configurations under the same arrivals and the same boots, and prints those of which no other is both
/// cheaper and faster (the frontier of cost against the p99 of waiting), and the present configuration's place among
/// them. `[simulate]` and `[prices]` of the configuration describe the cloud. No real instance is launched.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Arrivals: an event log (`fleet.record`, .jsonl), a CSV file, or a generated trace, as for `rollcall simulate`.
    /// Without it, the event log of the configuration
    pub arrivals: Option<String>,
    /// Choose the point of least cost and waiting, at this price of an hour of a job's waiting
    #[arg(long, value_name = "PRICE", conflicts_with = "p99", value_parser = price)]
    pub wait_price: Option<f64>,
    /// Choose the cheapest point whose p99 of waiting is at most this. Without either, that of the present configuration
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub p99: Option<Duration>,
    /// Write a configuration file for the chosen point
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write a page that shows the frontier, and the queue, the instances and the latency of each of its points
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Number of configurations to try
    #[arg(long, value_name = "N", default_value_t = 600)]
    pub tries: usize,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Threads; one per core without it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

fn price(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|price| (0.0..=1e9).contains(price))
        .ok_or_else(|| "must be a number from 0 to 1e9".to_owned())
}

/// Runs the command.
pub fn run(args: &Args, config: Option<PathBuf>, env: HashMap<String, String>) -> ExitCode {
    match tune(args, config.as_deref(), &env) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<SettingsError>() => {
            eprintln!("rollcall: configuration: {error:#}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tune(args: &Args, config: Option<&Path>, env: &HashMap<String, String>) -> anyhow::Result<()> {
    let settings = Settings::for_simulation(&Layers::load(config, env.clone())?)?;
    let service = super::simulate::parameters(&settings).cloud.service;
    let trace = match &args.arrivals {
        Some(name) => arrivals(name, service, args.seed)?,
        None => {
            let here = Settings::from_layers(&Layers::load(config, env.clone())?, app::machine())?;
            let record =
                here.fleet.record.context("fleet.record is not set: name an event log, a CSV file or a trace")?;
            of_record(&record, service, args.seed)?
        }
    };
    let cloud = Cloud { config, env, trace: &trace, seed: args.seed };
    let threads = parallel::threads(args.threads);
    let present = cloud.present()?;
    let goal = match (args.wait_price, args.p99) {
        (Some(price), _) => Goal::WaitPrice(price),
        (None, Some(p99)) => Goal::P99(p99.as_secs_f64()),
        (None, None) => Goal::P99(present.p99_s),
    };
    let bar = progress_bar(args.tries, args.json);
    let Found { trials, rejected, chosen } = search(&cloud, &present, goal, args.tries, threads, &|| bar.inc(1))?;
    bar.finish_and_clear();
    let tuned = Tuned {
        trace: trace.name.clone(),
        requests: trace.arrivals.len(),
        tried: trials.len(),
        rejected,
        goal,
        frontier: frontier(&trials),
        all: trials.iter().map(|trial| (trial.cost, trial.p99_s)).collect(),
        present,
        chosen,
    };
    if let Some(file) = &args.output {
        let text = config_file::text(&tuned, config)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &args.html {
        let page = page::page(&tuned, &cloud, threads)?;
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&tuned)?);
    } else {
        print!("{}", text::text(&tuned));
    }
    Ok(())
}

fn arrivals(name: &str, service: Service, seed: u64) -> anyhow::Result<Trace> {
    if Path::new(name).extension().is_some_and(|extension| extension == "jsonl") {
        return of_record(Path::new(name), service, seed);
    }
    Ok(Trace::named(name, service, seed)?)
}

fn of_record(file: &Path, service: Service, seed: u64) -> anyhow::Result<Trace> {
    let recorded = recorded(file)?;
    anyhow::ensure!(!recorded.jobs.is_empty(), "{} has no arrivals yet", file.display());
    Ok(Trace::new(&file.display().to_string(), recorded.length, recorded.jobs, service, seed))
}

fn progress_bar(tries: usize, hidden: bool) -> ProgressBar {
    // Nothing is drawn if standard error is not a terminal.
    let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} configurations, {per_sec}, {eta} left")
        .expect("the template is a constant and known to be valid");
    ProgressBar::with_draw_target(Some(tries as u64), target).with_style(style)
}

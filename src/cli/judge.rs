//! `rollcall judge`: compares the policies on many traces, by what they cost together with the waiting.

mod outcome;
mod table;
mod verdict;

use std::{collections::HashMap, ops::RangeInclusive, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;

use super::{parallel, simulate::table::replaced};
use crate::{settings::Policy, simulator::Trace};
use outcome::{Case, outcomes};
use verdict::{Verdict, judge};

/// The policy that is judged, once it exists.
const ADAPTIVE: &str = "adaptive";

/// Compare the policies on many traces: what each costs together with the waiting of its jobs.
///
/// Every trace is generated once per seed, and all policies see the same jobs. Their thresholds are the defaults, as in
/// `rollcall simulate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Traces, as for `rollcall simulate`; may be given several times. Without it, every random one
    #[arg(long, value_name = "TRACE")]
    pub trace: Vec<String>,
    /// Seeds: the first and the last. Choose thresholds on 1-20, and judge them on others
    #[arg(long, value_name = "A-B", default_value = "1001-1030", value_parser = seeds)]
    pub seeds: RangeInclusive<u64>,
    /// The policy to judge against the others. Without it, adaptive, if there is one
    #[arg(long, value_name = "NAME", value_parser = policy)]
    pub policy: Option<String>,
    /// What an hour of a job's waiting is worth; may be given several times
    #[arg(long, value_name = "PRICE", default_values_t = [0.01, 0.1, 1.0])]
    pub wait_price: Vec<f64>,
    /// A p99 of waiting to hold; may be given several times
    #[arg(long, value_name = "TIME", default_values = ["30s"], value_parser = humantime::parse_duration)]
    pub target_wait: Vec<Duration>,
    /// Print the verdicts as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the tables between the lines <!-- judge --> and <!-- /judge --> of this Markdown file
    #[arg(long, value_name = "FILE")]
    pub update: Option<PathBuf>,
    /// Threads; one per core without it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let range = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let range: Option<(u64, u64)> = range.filter(|(a, b)| a <= b);
    range.map(|(a, b)| a..=b).ok_or_else(|| "must be two numbers, such as 1001-1030".to_owned())
}

fn policy(name: &str) -> Result<String, String> {
    let known = || Policy::ALL.into_iter().map(|(known, _)| known);
    match known().any(|known| known == name) {
        true => Ok(name.to_owned()),
        false => Err(format!("must be one of {}", known().collect::<Vec<_>>().join(", "))),
    }
}

/// Runs the command.
pub fn run(args: &Args, config: Option<PathBuf>, env: HashMap<String, String>) -> ExitCode {
    match verdicts(args, config, env).and_then(|verdicts| show(args, &verdicts)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every policy on every trace and seed, and judges each trace.
fn verdicts(args: &Args, config: Option<PathBuf>, env: HashMap<String, String>) -> anyhow::Result<Vec<Verdict>> {
    let judged = args.policy.clone().or_else(|| policy(ADAPTIVE).ok());
    let mut traces = args.trace.clone();
    if traces.is_empty() {
        traces.extend(Trace::NAMES.map(str::to_owned));
    }
    let cases: Vec<Case> =
        traces.iter().flat_map(|trace| args.seeds.clone().map(|seed| Case { trace: trace.clone(), seed })).collect();
    let with = outcome::With {
        config,
        env,
        judged: judged.clone(),
        wait_prices: args.wait_price.clone(),
        target_waits: args.target_wait.clone(),
    };
    let results = parallel::map(&cases, parallel::threads(args.threads), |case| outcomes(case, &with));
    let results = results.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let each = results.chunks(args.seeds.clone().count());
    Ok(traces.iter().zip(each).map(|(trace, runs)| judge(trace, runs, judged.as_deref())).collect())
}

fn show(args: &Args, verdicts: &[Verdict]) -> anyhow::Result<()> {
    let tables = table::tables(verdicts, &args.seeds);
    if let Some(file) = &args.update {
        let old = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let new = replaced(&old, "judge", &tables).with_context(|| {
            format!("{} does not contain the lines <!-- judge --> and <!-- /judge -->", file.display())
        })?;
        std::fs::write(file, new).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(verdicts)?);
    } else {
        print!("{tables}");
    }
    Ok(())
}

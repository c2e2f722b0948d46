//! `rollcall simulate`: runs the controller against a simulated cloud.

mod page;
mod parameters;
pub(super) mod table;
mod text;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::exit::EXIT_CONFIG;
use crate::{
    settings::{Layers, Settings, SettingsError},
    simulator::{ControllerKind, Run, Trace, simulate},
};

pub use parameters::parameters;

/// Run the controller against a simulated cloud, and report latency and cost.
///
/// The same arguments give the same report, byte for byte. `[simulate]` and `[prices]` of the configuration describe
/// the cloud and what it charges; "auto" has the value that it has on AWS. No real instance is launched, and nothing is
/// billed.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Arrivals: report-N (N at once), steady-R-S (R per second for S seconds), poisson, on-off, diurnal, bursty, gamma-sparse, gamma-dense, periodic, weekly, self-similar, shift, or a CSV file (seconds, service seconds)
    #[arg(long, value_name = "TRACE")]
    pub trace: String,
    /// Policy to use instead of the configuration's, or cooldown-loop (a control loop with 30 s polls and a cooldown of
    /// 300 s, as a baseline); may be given several times
    #[arg(long, value_name = "NAME")]
    pub policy: Vec<String>,
    /// Configurations to compare, each with its own policy and cloud, after the runs of --config and --policy
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub compare: Vec<PathBuf>,
    /// Run all in the same cloud: `[simulate]` and `[prices]` of --config, or the defaults, apply to every
    /// configuration
    #[arg(long)]
    pub same_cloud: bool,
    /// Number of stopped instances at the start, instead of `simulate.warm`
    #[arg(long, value_name = "N")]
    pub warm: Option<usize>,
    /// Calls of each kind that the region allows to the request queue per second, instead of `simulate.queue_quota`; may be
    /// given several times, for one run each
    #[arg(long, value_name = "N")]
    pub queue_quota: Vec<usize>,
    /// Seed of all random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the reports as JSON: a list with one object per run
    #[arg(long)]
    pub json: bool,
    /// Write a page that compares the runs: figures, cost against waiting, and each run over time
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the comparison as a table into this Markdown file: of latency and cost between the lines <!-- simulate --> and
    /// <!-- /simulate -->, and of the calls to the queues between <!-- simulate calls --> and <!-- /simulate calls -->
    #[arg(long, value_name = "FILE")]
    pub update: Option<PathBuf>,
}

/// Runs the simulations and prints the report.
pub fn run(args: Args, config: Option<PathBuf>, env: HashMap<String, String>) -> ExitCode {
    let error = match compare(&args, config.as_deref(), &env) {
        Ok(runs) => match show(&args, &runs) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error,
        },
        Err(error) => error,
    };
    if error.is::<SettingsError>() {
        eprintln!("rollcall: configuration: {error:#}");
        return ExitCode::from(EXIT_CONFIG);
    }
    eprintln!("rollcall: {error:#}");
    ExitCode::FAILURE
}

/// Returns all runs: one for each `--policy` on `config`, then one for each configuration of `--compare`.
///
/// # Errors
/// [`SettingsError`] for an invalid configuration or policy; [`crate::simulator::TraceError`] for an invalid trace.
fn compare(args: &Args, config: Option<&Path>, env: &HashMap<String, String>) -> anyhow::Result<Vec<Run>> {
    let mut env = env.clone();
    if let Some(warm) = args.warm {
        env.insert("ROLLCALL__SIMULATE__WARM".into(), warm.to_string());
    }
    let mut configurations: Vec<(Option<&Path>, Option<&str>)> =
        args.policy.iter().map(|name| (config, Some(name.as_str()))).collect();
    if configurations.is_empty() && (config.is_some() || args.compare.is_empty()) {
        configurations.push((config, None));
    }
    configurations.extend(args.compare.iter().map(|file| (Some(file.as_path()), None)));
    let mut quotas: Vec<Option<usize>> = args.queue_quota.iter().copied().map(Some).collect();
    if quotas.is_empty() {
        quotas.push(None);
    }
    let mut runs = Vec::new();
    for quota in quotas {
        if let Some(quota) = quota {
            env.insert("ROLLCALL__SIMULATE__QUEUE_QUOTA".into(), quota.to_string());
        }
        let main = if args.same_cloud { Some(settings(config, &env)?) } else { None };
        for (file, policy) in &configurations {
            runs.push(one(args, *file, *policy, main.as_ref(), &env)?);
        }
    }
    Ok(runs)
}

fn settings(file: Option<&Path>, env: &HashMap<String, String>) -> Result<Settings, SettingsError> {
    Settings::for_simulation(&Layers::load(file, env.clone())?)
}

/// Runs one configuration. If `main` is given, its `[simulate]` and `[prices]` apply instead of the file's.
fn one(
    args: &Args,
    file: Option<&Path>,
    policy: Option<&str>,
    main: Option<&Settings>,
    env: &HashMap<String, String>,
) -> anyhow::Result<Run> {
    let mut env = env.clone();
    let kind = match policy {
        Some(ControllerKind::COOLDOWN_LOOP) => ControllerKind::CooldownLoop,
        Some(name) => {
            env.insert("ROLLCALL__FLEET__POLICY".into(), name.into());
            ControllerKind::Fleet
        }
        None => ControllerKind::Fleet,
    };
    let mut settings = settings(file, &env)?;
    if let Some(main) = main {
        (settings.simulate, settings.prices) = (main.simulate.clone(), main.prices.clone());
    }
    let parameters = parameters(&settings);
    let trace = Trace::named(&args.trace, parameters.cloud.service, args.seed)?;
    let mut run = simulate(&parameters, kind, &trace, args.seed);
    run.report = run.report.with_least_cost(&parameters, &trace);
    run.report.label = match file {
        Some(file) => format!("{} ({})", run.report.policy, file.display()),
        None => run.report.policy.clone(),
    };
    Ok(run)
}

fn show(args: &Args, runs: &[Run]) -> anyhow::Result<()> {
    if let Some(file) = &args.html {
        let page = page::page(runs).context("the page cannot be written")?;
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &args.update {
        table::update(file, runs)?;
    }
    let reports: Vec<_> = runs.iter().map(|run| &run.report).collect();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        print!("{}", text::text(&reports));
    }
    Ok(())
}

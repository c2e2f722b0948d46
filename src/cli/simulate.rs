//! `rollcall simulate`: the controller against a simulated cloud.

mod page;
mod plots;
mod table;
mod text;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::EXIT_CONFIG;
use crate::{
    settings::{Layers, Settings, SettingsError},
    simulator::{Contender, Run, Trace, simulate},
};

/// Run the controller against a simulated cloud, and report latency and cost.
///
/// The same arguments give the same report, byte for byte. `[simulate]` and `[prices]` of the configuration say what is
/// supposed of the cloud and what things cost; "auto" is what it is on AWS. Nothing is started and nothing is paid.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Arrivals: report-N (N at once), poisson, on-off, diurnal, bursty, or a CSV file (seconds, service seconds)
    #[arg(long, value_name = "TRACE")]
    pub trace: String,
    /// Policy instead of the configuration's, or cooldown-loop (a 30 s / 300 s control loop, as a yardstick); may be
    /// given several times
    #[arg(long, value_name = "NAME")]
    pub policy: Vec<String>,
    /// Configurations to run side by side, each with its own policy and cloud, after those of --config and --policy
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub compare: Vec<PathBuf>,
    /// Run all in the same cloud: `[simulate]` and `[prices]` of --config (or the defaults) hold for every configuration
    #[arg(long)]
    pub same_cloud: bool,
    /// Stopped instances at the beginning instead of `simulate.warm`
    #[arg(long, value_name = "N")]
    pub warm: Option<usize>,
    /// Seed of every random number
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print the report as JSON; a list of them for several runs
    #[arg(long)]
    pub json: bool,
    /// Write a page with plots of the queue, the instances and the latency, run beside run
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the comparison as a table into this Markdown file, between the lines <!-- simulate --> and
    /// <!-- /simulate -->
    #[arg(long, value_name = "FILE")]
    pub update: Option<PathBuf>,
}

/// Runs what is asked and prints the report.
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

/// All runs that are asked for: `--policy` by `--policy` on `config`, then each configuration to compare with.
///
/// # Errors
/// [`SettingsError`] for a configuration or a policy that cannot be used; a trace that is not there.
pub fn compare(args: &Args, config: Option<&Path>, env: &HashMap<String, String>) -> anyhow::Result<Vec<Run>> {
    let mut env = env.clone();
    if let Some(warm) = args.warm {
        env.insert("ROLLCALL__SIMULATE__WARM".into(), warm.to_string());
    }
    let mut contenders: Vec<(Option<&Path>, Option<&str>)> =
        args.policy.iter().map(|name| (config, Some(name.as_str()))).collect();
    if contenders.is_empty() && (config.is_some() || args.compare.is_empty()) {
        contenders.push((config, None));
    }
    contenders.extend(args.compare.iter().map(|file| (Some(file.as_path()), None)));
    let main = if args.same_cloud { Some(settings(config, &env)?) } else { None };
    contenders.into_iter().map(|(file, policy)| one(args, file, policy, main.as_ref(), &env)).collect()
}

fn settings(file: Option<&Path>, env: &HashMap<String, String>) -> Result<Settings, SettingsError> {
    Settings::for_simulation(&Layers::load(file, env.clone())?)
}

/// `main`: where `[simulate]` and `[prices]` come from, if not from the file.
fn one(
    args: &Args,
    file: Option<&Path>,
    policy: Option<&str>,
    main: Option<&Settings>,
    env: &HashMap<String, String>,
) -> anyhow::Result<Run> {
    let mut env = env.clone();
    let contender = match policy {
        Some(Contender::COOLDOWN_LOOP) => Contender::CooldownLoop,
        Some(name) => {
            env.insert("ROLLCALL__FLEET__POLICY".into(), name.into());
            Contender::Fleet
        }
        None => Contender::Fleet,
    };
    let mut settings = settings(file, &env)?;
    if let Some(main) = main {
        (settings.simulate, settings.prices) = (main.simulate.clone(), main.prices.clone());
    }
    let trace = Trace::named(&args.trace, &settings.simulate, args.seed)?;
    let mut run = simulate(&settings, contender, &trace, args.seed);
    run.report.label = match file {
        Some(file) => format!("{} ({})", run.report.policy, file.display()),
        None => run.report.policy.clone(),
    };
    Ok(run)
}

fn show(args: &Args, runs: &[Run]) -> anyhow::Result<()> {
    if let Some(file) = &args.html {
        let page = page::page(runs).context("the plots cannot be drawn")?;
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(file) = &args.update {
        table::update(file, runs)?;
    }
    let reports: Vec<_> = runs.iter().map(|run| &run.report).collect();
    match reports.as_slice() {
        [one] if args.json => println!("{}", serde_json::to_string_pretty(one)?),
        all if args.json => println!("{}", serde_json::to_string_pretty(all)?),
        all => print!("{}", text::text(all)),
    }
    Ok(())
}

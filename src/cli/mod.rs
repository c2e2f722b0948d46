//! The command line: one file or folder per command, or per group of them.
//!
//! Results go to standard output, everything else to standard error.

mod audit;
mod aws;
mod backup;
mod completions;
mod config;
mod dead;
mod doctor;
pub mod enroll;
pub mod evaluate;
mod exit;
mod fleet;
mod gallery;
mod judge;
mod load;
mod parallel;
mod photos;
mod queue;
mod recognize;
mod report_page;
mod serve;
mod server;
pub mod simulate;
mod token;
mod tune;
mod up;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};

use exit::EXIT_CONFIG;

#[cfg(not(feature = "aws"))]
use crate::app::queues::aws_not_built_in;
use crate::{
    app,
    cloud::{ObjectStore, local::LocalObjects},
    http,
    inference::{factory::factory, gallery::GalleryStores, handler::RecognitionHandler},
    settings::{CloudKind, Layers, Settings},
};

/// Face recognition that scales itself.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Cli {
    /// Settings file (TOML); `config/default.toml` documents every key. Variables ROLLCALL__SECTION__KEY override it. An
    /// installed program uses `/etc/rollcall/rollcall.toml` by default
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine: web tier, controller, queue and store, with workers as child processes
    Up,
    /// On AWS: run the web tier and the controller
    Serve(serve::Args),
    /// On AWS: run one of several web nodes, without the controller
    Web(serve::Args),
    /// On AWS: run the controller alone; if there are several, one is active
    Controller(serve::Args),
    /// Run one worker (instances start it themselves)
    Worker(app::WorkerArgs),
    /// Add people to the gallery from a folder with one subfolder of photos per person
    Enroll(enroll::Args),
    /// List, remove, erase, import and export people
    Gallery(gallery::Args),
    /// Recognise photos in this process, without a cluster
    Recognize(recognize::Args),
    /// Measure accuracy on a folder with known/, probes/ and strangers/
    Evaluate(evaluate::Args),
    /// Upload photos as many clients at once, and report labels, latency, the fleet and the stored results
    Load(load::Args),
    /// Run the controller against a simulated cloud, and report latency and cost
    Simulate(simulate::Args),
    /// Compare the policies on many traces in a simulated cloud, by what they cost together with the waiting
    Judge(judge::Args),
    /// Search for better thresholds in a simulated cloud, from the fleet's own record or another trace
    Tune(tune::Args),
    /// Show the fleet of a running server, explain its decisions, and replay its event log
    Fleet(fleet::Args),
    /// List the jobs that a running server has given up, send them again, or purge them
    Dead(dead::Args),
    /// Show who has changed, deleted or looked at what is stored of people
    Audit(audit::Args),
    /// Back up everything that this machine stores, also while its server is running
    Backup(backup::BackupArgs),
    /// Restore a backup into a data folder that is empty or does not exist
    Restore(backup::RestoreArgs),
    /// Repair the queues of this machine
    Queue(queue::Args),
    /// Create, list and revoke the tokens that clients of a server need
    Token(token::Args),
    /// Set up a cluster on AWS (image, stack), verify that it works, and take it down
    Aws(aws::Args),
    /// Check what a node or a worker needs before it runs, and print a remedy for each fault
    Doctor(doctor::Args),
    /// Show the effective configuration and where each value came from
    Config(config::Args),
    /// Print the description of the HTTP API in OpenAPI 3.1
    Openapi,
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Write the manual pages to a folder
    #[command(hide = true)]
    Manual(completions::Manual),
}

/// Runs the command and returns its exit code. Errors go to standard error, with what to do about them.
pub fn run(mut cli: Cli) -> ExitCode {
    cli.config = cli.config.or_else(app::installed_settings);
    let cli = match cli.command {
        Command::Simulate(args) => return simulate::run(args, cli.config, app::environment()),
        Command::Judge(args) => return judge::run(&args, cli.config, app::environment()),
        Command::Tune(args) => return tune::run(&args, cli.config, app::environment()),
        Command::Completions(args) => {
            completions::completions(args, Cli::command());
            return ExitCode::SUCCESS;
        }
        Command::Openapi => {
            println!("{}", http::description());
            return ExitCode::SUCCESS;
        }
        Command::Manual(args) => return outcome(completions::manual(args, Cli::command()).map(|()| ExitCode::SUCCESS)),
        _ => cli,
    };
    let layers = match Layers::load(cli.config.as_deref(), app::environment()) {
        Ok(layers) => layers,
        Err(error) => return config_error(&error),
    };
    let settings = match Settings::from_layers(&layers, app::machine()) {
        Ok(settings) => settings,
        Err(error) => return config_error(&error),
    };
    if let Err(error) = app::log_to_stderr(&settings.log) {
        return config_error(&error);
    }
    outcome(dispatch(cli, &layers, settings))
}

fn outcome(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rollcall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn config_error(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("rollcall: configuration: {error}");
    ExitCode::from(EXIT_CONFIG)
}

fn dispatch(cli: Cli, layers: &Layers, settings: Settings) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up => return up::run(settings, cli.config),
        Command::Serve(args) => return serve::run(settings, serve::Role::Serve, args),
        Command::Web(args) => return serve::run(settings, serve::Role::Web, args),
        Command::Controller(args) => return serve::run(settings, serve::Role::Controller, args),
        Command::Worker(args) => return app::worker(settings, args, recognition_handler),
        Command::Enroll(args) => app::block_on(async { enroll::run(args, &settings, store(&settings).await?).await })?,
        Command::Gallery(args) => {
            app::block_on(async { gallery::run(args, &settings, store(&settings).await?).await })?
        }
        Command::Recognize(args) => {
            app::block_on(async { recognize::run(args, &settings, store(&settings).await?).await })?
        }
        Command::Evaluate(args) => app::block_on(evaluate::run(args, &settings))?,
        Command::Load(args) => return app::block_on(load::run(args, &settings)),
        Command::Simulate(_)
        | Command::Judge(_)
        | Command::Tune(_)
        | Command::Openapi
        | Command::Completions(_)
        | Command::Manual(_) => {
            unreachable!("run() has handled them, because they do not depend on these settings")
        }
        Command::Fleet(args) => app::block_on(fleet::run(args, &settings))?,
        Command::Dead(args) => app::block_on(dead::run(args, &settings))?,
        Command::Audit(args) => app::block_on(async { audit::run(args, &settings, store(&settings).await?).await })?,
        Command::Backup(args) => app::block_on(backup::back_up(args, &settings))?,
        Command::Restore(args) => app::block_on(backup::restore(args, &settings))?,
        Command::Queue(args) => app::block_on(queue::run(args, &settings))?,
        Command::Token(args) => app::block_on(async { token::run(args, &settings, store(&settings).await?).await })?,
        Command::Aws(args) => return app::block_on(aws::run(args, &settings, cli.config)),
        Command::Doctor(args) => return app::block_on(doctor::run(args, &settings)),
        Command::Config(args) => config::run(args, layers, app::machine())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Creates the job handler of a worker.
async fn recognition_handler(settings: &Settings, objects: Arc<dyn ObjectStore>) -> anyhow::Result<RecognitionHandler> {
    let galleries = GalleryStores::new(objects, settings);
    RecognitionHandler::start(factory(&settings.recognition), galleries, settings.gallery.refresh)
        .await
        .context("gallery")
}

/// Opens the object store of the configured cloud.
async fn store(settings: &Settings) -> anyhow::Result<Arc<dyn ObjectStore>> {
    match settings.cloud.kind {
        CloudKind::Local => {
            let dir = &settings.local.data_dir;
            let store = LocalObjects::open(dir);
            Ok(Arc::new(store.with_context(|| format!("cannot open the store in {}", dir.display()))?))
        }
        #[cfg(feature = "aws")]
        CloudKind::Aws => Ok(crate::cloud::aws::AwsCloud::connect(settings, false).await?.objects),
        #[cfg(not(feature = "aws"))]
        CloudKind::Aws => Err(aws_not_built_in()),
    }
}

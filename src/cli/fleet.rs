//! `rollcall fleet`: shows the fleet of a running server, explains its decisions, and replays an event log.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::server::{Server, time};
use crate::{
    fleet::{
        arrivals::{Arrivals, arrivals},
        event_log::{Replayed, replay},
        explain::Decision,
        view::FleetView,
    },
    settings::{Policy, Settings},
};

/// Arguments of `rollcall fleet`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show demand, instances and the latest events
    Status {
        #[command(flatten)]
        server: Server,
    },
    /// Explain why instances were launched, started, stopped and terminated
    Explain {
        /// Only decisions about this instance, by id or name
        instance: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Replay an event log (`fleet.record`) through the fleet's core, and print what it decides
    Replay {
        /// The event log
        file: PathBuf,
        /// Decide by this policy instead of the recorded one, on the same observations
        #[arg(long, value_parser = policy)]
        policy: Option<Policy>,
        /// Print the decisions as JSON, one list per controller epoch
        #[arg(long)]
        json: bool,
    },
    /// Print the arrivals of an event log (`fleet.record`) as CSV: seconds since its beginning, and seconds on a thread
    Trace {
        /// The event log
        file: PathBuf,
    },
}

fn policy(name: &str) -> Result<Policy, String> {
    let found = Policy::ALL.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy);
    found.ok_or_else(|| format!("must be one of {}", Policy::ALL.map(|(known, _)| known).join(", ")))
}

/// Runs the subcommand.
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    match args.action {
        Action::Status { server } => status(&server, settings).await,
        Action::Explain { instance, server } => explain(instance, &server, settings).await,
        Action::Replay { file, policy, json } => replay_file(&file, policy, json),
        Action::Trace { file } => {
            print!("{}", csv(&recorded(&file)?));
            Ok(())
        }
    }
}

async fn status(server: &Server, settings: &Settings) -> anyhow::Result<()> {
    if server.json {
        println!("{}", server.ask("/v1/fleet", settings).await?);
        return Ok(());
    }
    let view: FleetView = server.get("/v1/fleet", settings).await?;
    let (c, d) = (view.counts, view.depth);
    println!(
        "policy    {}, cap {}, target {}, {} launches and starts pending",
        view.policy, view.max_instances, view.target, view.intents
    );
    println!("jobs      {} waiting, {} in flight, {} delayed", d.visible, d.in_flight, d.delayed);
    println!(
        "instances {} pending, {} running, {} stopping, {} stopped, {} shutting down, {} terminated",
        c.pending, c.running, c.stopping, c.stopped, c.shutting_down, c.terminated
    );
    if let Some(degraded) = &view.degraded {
        println!("degraded  since {}: {degraded}", time(degraded.since_ms));
        let (under_way, how) = match degraded.refused {
            0 => ("one instance is booting", "one instance is tried at a time, the next not before"),
            _ => ("one is being requested", "the next one is requested not before"),
        };
        let next = degraded.next_attempt_ms.map_or(under_way.to_owned(), |at| format!("{how} {}", time(at)));
        println!("{:<9} {next}", "");
    }
    for i in &view.instances {
        let pid = i.pid.map_or_else(String::new, |pid| format!("pid {pid}"));
        println!(
            "  {:<24} {} {:<13} {} {}",
            i.name,
            i.id,
            format!("{:?}", i.state).to_lowercase(),
            pid,
            i.reason.as_deref().unwrap_or("")
        );
    }
    for line in view.events.iter().rev().take(20).rev() {
        println!("{:<26} {:<10} {}", time(line.at_ms), line.kind, line.text);
    }
    Ok(())
}

async fn explain(instance: Option<String>, server: &Server, settings: &Settings) -> anyhow::Result<()> {
    let mut decisions: Vec<Decision> = server.get("/v1/fleet/decisions", settings).await?;
    if let Some(wanted) = instance {
        let view: FleetView = server.get("/v1/fleet", settings).await?;
        let named = view.instances.into_iter().find(|i| i.name == wanted).map(|i| i.id);
        let id = named.unwrap_or(wanted);
        decisions.retain(|decision| decision.instances.contains(&id));
        anyhow::ensure!(!decisions.is_empty(), "none of the latest 1000 decisions is about {id}");
    }
    if server.json {
        println!("{}", serde_json::to_string(&decisions)?);
        return Ok(());
    }
    decisions.iter().for_each(print);
    Ok(())
}

fn replay_file(file: &PathBuf, policy: Option<Policy>, json: bool) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let epochs = replay(text.lines(), policy)?;
    if json {
        let lists: Vec<_> =
            epochs.iter().map(|epoch| epoch.decisions.iter().map(|d| &**d).collect::<Vec<_>>()).collect();
        println!("{}", serde_json::to_string(&lists)?);
        return Ok(());
    }
    for Replayed { policy, started_ms, events, decisions } in &epochs {
        println!(
            "controller started {}: {events} events, {} decisions by {}",
            time(*started_ms),
            decisions.len(),
            policy.name()
        );
        decisions.iter().for_each(|decision| print(decision));
    }
    Ok(())
}

/// Reads the arrivals of an event log.
///
/// # Errors
/// The file cannot be read, or is not an event log.
pub(super) fn recorded(file: &Path) -> anyhow::Result<Arrivals> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    arrivals(text.lines()).with_context(|| format!("{} is not an event log", file.display()))
}

/// Writes arrivals in the format of a trace file.
fn csv(arrivals: &Arrivals) -> String {
    let mut out = String::from("seconds,service\n");
    for (at, service) in &arrivals.jobs {
        let service = service.map_or_else(String::new, |service| service.as_secs_f64().to_string());
        out += &format!("{},{service}\n", at.as_secs_f64());
    }
    out
}

fn print(decision: &Decision) {
    println!("{:<26} {:<10} {}", time(decision.at_ms), decision.kind.name(), decision.reason);
    if !decision.instances.is_empty() {
        println!("{:<37} {}", "", decision.instances.join(" "));
    }
}

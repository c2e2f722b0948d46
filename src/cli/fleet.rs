//! `rollcall fleet`: the fleet of a running server, why it decided as it did, and its event log decided again.
//! again.

use std::{fs::File, io::BufReader, path::PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde::de::DeserializeOwned;

use crate::{
    fleet::{
        explain::Decision,
        record::{Replayed, replay},
        view::FleetView,
    },
    settings::{Policy, Settings},
};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Args)]
struct Server {
    /// Server to ask; by default the one that this configuration would start
    #[arg(long)]
    url: Option<String>,
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// Instances by state, demand, and what the fleet did last
    Status {
        #[command(flatten)]
        server: Server,
    },
    /// Why instances were launched, started, stopped and terminated
    Explain {
        /// Only what concerns this instance, by id or name
        instance: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Take a record (`fleet.record`) through the fleet's core again, and print what it decides
    Replay {
        /// The event log
        file: PathBuf,
        /// Decide by this policy instead: what it would have wanted, seeing what was seen
        #[arg(long, value_parser = policy)]
        policy: Option<Policy>,
        /// Print the decisions as JSON, one list per epoch of the controller
        #[arg(long)]
        json: bool,
    },
}

fn policy(name: &str) -> Result<Policy, String> {
    let found = Policy::ALL.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy);
    found.ok_or_else(|| format!("one of {}", Policy::ALL.map(|(known, _)| known).join(", ")))
}

pub async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    match args.action {
        Action::Status { server } => status(&server, settings).await,
        Action::Explain { instance, server } => explain(instance, &server, settings).await,
        Action::Replay { file, policy, json } => replay_file(&file, policy, json),
    }
}

impl Server {
    async fn ask(&self, path: &str, settings: &Settings) -> anyhow::Result<String> {
        let base = self.url.clone().unwrap_or_else(|| format!("http://{}", settings.http.listen));
        let url = format!("{}{path}", base.trim_end_matches('/'));
        let answer = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status);
        Ok(answer.with_context(|| format!("no answer from {url}: is `rollcall up` running?"))?.text().await?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, settings: &Settings) -> anyhow::Result<T> {
        let text = self.ask(path, settings).await?;
        serde_json::from_str(&text).context("this is not a rollcall server of this version")
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
        "policy {}, at most {} instances, {} wanted, {} asked for",
        view.policy, view.max_instances, view.target, view.intents
    );
    println!("jobs      {} waiting, {} being worked on, {} delayed", d.visible, d.in_flight, d.delayed);
    println!(
        "instances {} pending, {} running, {} stopping, {} stopped, {} shutting down, {} terminated",
        c.pending, c.running, c.stopping, c.stopped, c.shutting_down, c.terminated
    );
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
        anyhow::ensure!(!decisions.is_empty(), "nothing is known of {id}: the latest 1000 decisions are kept");
    }
    if server.json {
        println!("{}", serde_json::to_string(&decisions)?);
        return Ok(());
    }
    decisions.iter().for_each(print);
    Ok(())
}

fn replay_file(file: &PathBuf, policy: Option<Policy>, json: bool) -> anyhow::Result<()> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let lives = replay(BufReader::new(opened), policy)?;
    if json {
        let lists: Vec<_> = lives.iter().map(|life| life.decisions.iter().map(|d| &**d).collect::<Vec<_>>()).collect();
        println!("{}", serde_json::to_string(&lists)?);
        return Ok(());
    }
    for Replayed { policy, started_ms, events, decisions } in &lives {
        println!(
            "controller of {}: {events} events, {} decisions by {}",
            time(*started_ms),
            decisions.len(),
            policy.name()
        );
        decisions.iter().for_each(|decision| print(decision));
    }
    Ok(())
}

fn print(decision: &Decision) {
    println!("{:<26} {:<10} {}", time(decision.at_ms), decision.kind.name(), decision.reason);
    if !decision.instances.is_empty() {
        println!("{:<37} {}", "", decision.instances.join(" "));
    }
}

fn time(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms as i64).map_or_else(|_| String::new(), |t| t.to_string())
}

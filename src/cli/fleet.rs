//! `rollcall fleet status`: the fleet of a running server, in words.

use anyhow::Context as _;
use clap::Subcommand;

use crate::{actors::fleet::view::FleetView, settings::Settings};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Instances by state, demand, and what the fleet did last
    Status {
        /// Server to ask; by default the one that this configuration would start
        #[arg(long)]
        url: Option<String>,
        /// Print the server's answer as it is
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let Action::Status { url, json } = args.action;
    let base = url.unwrap_or_else(|| format!("http://{}", settings.http.listen));
    let url = format!("{}/v1/fleet", base.trim_end_matches('/'));
    let answer = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status);
    let text = answer.with_context(|| format!("no answer from {url}: is `rollcall up` running?"))?.text().await?;
    if json {
        println!("{text}");
        return Ok(());
    }
    let view: FleetView = serde_json::from_str(&text).with_context(|| format!("{url} is not a rollcall server"))?;
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
    for line in view.story.iter().rev().take(20).rev() {
        let at = jiff::Timestamp::from_millisecond(line.at_ms as i64).map_or_else(|_| String::new(), |t| t.to_string());
        println!("{at:<26} {:<10} {}", line.kind, line.text);
    }
    Ok(())
}

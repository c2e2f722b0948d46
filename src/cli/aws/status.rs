//! `rollcall aws status`.

use std::time::Duration;

use serde_json::json;

use crate::{
    cli::server::time,
    clock::now_ms,
    cloud::aws::deploy::{
        Account,
        status::{Fleet, Status, status},
    },
};

/// How long the web node may take to respond.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(super) struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the state of a cluster.
pub(super) async fn run(account: &Account, args: Args) -> anyhow::Result<()> {
    let status = status(account, now_ms() as i64).await?;
    let ready = match &status.address {
        Some(address) => Some(readiness(address).await),
        None => None,
    };
    if args.json {
        let mut shown = serde_json::to_value(&status)?;
        shown["ready"] = json!(ready);
        println!("{shown}");
    } else {
        print(&status, ready.as_deref());
    }
    Ok(())
}

/// Returns what a web node says of itself, or why it says nothing.
async fn readiness(address: &str) -> String {
    let response = async {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        client.get(format!("{address}readyz")).send().await?.text().await
    };
    match response.await {
        Ok(text) => text.trim().to_owned(),
        Err(error) => format!("no response: {error}"),
    }
}

fn print(status: &Status, ready: Option<&str>) {
    println!("stack        {}", status.stack.as_deref().unwrap_or("none: create one with `rollcall aws up`"));
    if let (Some(address), Some(ready)) = (&status.address, ready) {
        println!("address      {address} ({ready})");
    }
    for m in &status.machines {
        let version = m.version.as_ref().map_or_else(String::new, |version| format!(" version {version}"));
        println!("{:<12} {} {:<13} {} {} {}{version}", m.role, m.id, m.state, m.kind, m.zone, m.image);
    }
    for q in &status.queues {
        println!("queue        {}: {} visible, {} in flight, {} delayed", q.queue, q.visible, q.in_flight, q.delayed);
    }
    let Some(Fleet { at_ms, degraded, dead_letters, dollars_per_hour, dollars_today }) = status.fleet else {
        println!("fleet        the controller has logged no metrics today");
        return;
    };
    println!("dead letters {}", dead_letters.map_or_else(|| "not counted".to_owned(), |n| n.to_string()));
    println!("fleet        {}", if degraded { "degraded: see `rollcall fleet status`" } else { "not degraded" });
    println!(
        "cost         ${dollars_per_hour:.4} an hour, ${dollars_today:.4} today (workers, at the configured prices)"
    );
    println!("as of        {}", time(at_ms));
}

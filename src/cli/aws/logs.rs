//! `rollcall aws logs`, and the forwarder that machines run.

use std::{io::Write as _, path::PathBuf, time::Duration};

use crate::{
    app,
    cli::server::time,
    clock::now_ms,
    cloud::aws::{
        deploy::Account,
        logs::{self, FOLLOW_EVERY, Line, Query},
    },
    settings::Settings,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Continue with the lines that arrive
    #[arg(long)]
    follow: bool,
    /// How far back the first line may be
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    since: Duration,
    /// Only the lines of this instance (i-...)
    #[arg(long)]
    instance: Option<String>,
    /// Only the lines that contain this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

#[derive(clap::Args)]
pub(super) struct Forward {
    /// File with the position in the journal
    #[arg(long)]
    cursor: PathBuf,
}

/// Prints the logs of the cluster's machines.
pub(super) async fn run(account: &Account, args: Args) -> anyhow::Result<()> {
    let since_ms = now_ms().saturating_sub(args.since.as_millis() as u64) as i64;
    let mut reader = account.log_reader(Query { since_ms, instance: args.instance, text: args.filter });
    loop {
        let mut out = std::io::stdout().lock();
        for Line { at_ms, instance, unit, message } in reader.read().await? {
            writeln!(out, "{} {instance} {unit} {message}", time(at_ms.max(0) as u64))?;
        }
        out.flush()?;
        drop(out);
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Forwards the journal of this machine until a signal ends it.
pub(super) async fn forward(args: Forward, settings: &Settings) -> anyhow::Result<()> {
    logs::forward(settings, args.cursor, app::asked_to_end()).await
}

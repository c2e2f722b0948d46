//! `rollcall queue`: repairs the queues of one machine.

use std::collections::HashSet;

use anyhow::Context as _;

use crate::{
    cloud::local::{LocalObjects, Repair, repair_queues},
    results::ResultStore,
    settings::{CloudKind, Settings},
};

/// Arguments of `rollcall queue`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Repair the queues' file after damage: keep it under another name, and all jobs that can be read. The server must
    /// not be running
    Repair,
}

/// Runs the subcommand.
///
/// # Errors
/// The data folder is in use, or cannot be read or written.
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    let Action::Repair = args.action;
    anyhow::ensure!(settings.cloud.kind == CloudKind::Local, "cloud.kind is \"aws\": its queues need no repair");
    let dir = &settings.local.data_dir;
    let Some(Repair { kept, queued, lost, aside }) = repair_queues(dir)? else {
        println!("the queues in {} are not damaged", dir.display());
        return Ok(());
    };
    println!("kept {kept} messages; {lost} that are known of cannot be read");
    println!(
        "the damaged file is now {}: remove it when nothing of it is needed, because it contains photos",
        aside.display()
    );

    // A job whose id does not tell it is not one that a client was promised.
    let queued: HashSet<_> = queued.iter().filter_map(|group| group.parse().ok()).collect();
    let objects = LocalObjects::open(dir).with_context(|| format!("cannot use {}", dir.display()))?;
    let results = ResultStore::new(std::sync::Arc::new(objects), settings.store.clone());
    for (id, file) in results.fail_lost(&queued, "the job was lost with a damaged queue: upload it again").await? {
        println!(
            "lost: job {id}, {file}: its client was promised a result, which is now stored as failed; upload it again"
        );
    }
    Ok(())
}

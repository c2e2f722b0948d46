//! A job of another kind on the same queues, fleet and worker processes: the SHA-256 of files.
//!
//!     cargo run --example checksum -- sum FILE…
//!
//! starts a cluster on this machine (or, with `ROLLCALL__CLOUD__KIND=aws`, on SQS, S3 and EC2), submits each file as a
//! job, prints the checksums, and waits until the workers that it started have ended.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use rollcall::{
    app::{self, Cluster, WorkerArgs},
    client::Submission,
    job::{JobId, JobKind, Output, Retention},
    worker::{Executor, JobHandler},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const SHA256: JobKind = JobKind(1_000);

struct Checksum;

impl JobHandler for Checksum {
    fn executor(&self) -> anyhow::Result<Executor> {
        Ok(Box::new(|_job, payload| {
            let sum: String = Sha256::digest(payload).iter().map(|byte| format!("{byte:02x}")).collect();
            Output::json(&json!({ "sha256": sum, "bytes": payload.len() }), sum)
        }))
    }

    fn retention(&self, _: JobKind) -> Retention {
        Retention::Discard
    }
}

#[derive(Parser)]
enum Command {
    /// Print the checksum of each file
    Sum { files: Vec<PathBuf> },
    /// Run one worker (instances start this themselves)
    Worker(WorkerArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    let settings = app::settings(None)?;
    app::log_to_stderr(&settings.log)?;
    match Command::parse() {
        Command::Worker(args) => app::worker(settings, args, async |_, _| Ok(Checksum)),
        Command::Sum { files } => app::block_on(async {
            let cluster = Cluster::start(&settings, None).await?;
            let result = sum(&cluster, files).await;
            println!("done; waiting until the workers have ended");
            cluster.wait_until_idle().await;
            cluster.stop().await;
            result.map(|()| ExitCode::SUCCESS)
        }),
    }
}

async fn sum(cluster: &Cluster, files: Vec<PathBuf>) -> anyhow::Result<()> {
    for path in files {
        let payload = std::fs::read(&path).with_context(|| path.display().to_string())?.into();
        let (id, retention) = (JobId::new(), Retention::Discard);
        let job = Submission {
            id,
            kind: SHA256,
            retention,
            file: "file".into(),
            payload,
            dataset: String::new(),
            min_version: 0,
        };
        let reply = cluster.client().submit(cluster.client().admit()?, job, false).await?;
        println!("{} {}", std::str::from_utf8(&reply.outcome?)?, path.display());
    }
    Ok(())
}

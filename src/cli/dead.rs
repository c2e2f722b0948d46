//! `rollcall dead`: lists and shows the dead letters of a running server, sends them again, and purges them.

use bytesize::ByteSize;
use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;

use super::server::{Server, time};
use crate::{
    results::{DeadLetter, DeadLetterDetails},
    settings::Settings,
};

/// Arguments of `rollcall dead`.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the jobs that were given up, and why
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Show one job that was given up, with what is known of its message
    Show {
        /// Id of the job
        id: String,
        #[command(flatten)]
        server: Server,
    },
    /// Send jobs again, for example after a worker was upgraded
    Retry(Selection),
    /// Purge jobs with their images and results
    Purge(Selection),
}

/// Which dead letters.
#[derive(clap::Args)]
struct Selection {
    /// Ids of the jobs
    #[arg(required_unless_present = "all")]
    ids: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Deserialize)]
struct List {
    dead_letters: Vec<DeadLetter>,
}

const PATH: &str = "/v1/dead-letters";

/// Runs the subcommand.
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<()> {
    match args.action {
        Action::List { server } => list(&server, settings).await,
        Action::Show { id, server } => show(&id, &server, settings).await,
        Action::Retry(selection) => each(selection, Method::POST, "sent again", settings).await,
        Action::Purge(selection) => each(selection, Method::DELETE, "purged", settings).await,
    }
}

async fn list(server: &Server, settings: &Settings) -> anyhow::Result<()> {
    if server.json {
        println!("{}", server.ask(PATH, settings).await?);
        return Ok(());
    }
    let list: List = server.get(PATH, settings).await?;
    for DeadLetter { id, file, given_up_ms, reason } in list.dead_letters {
        println!("{id} {:<26} {file}: {reason}", time(given_up_ms));
    }
    Ok(())
}

async fn show(id: &str, server: &Server, settings: &Settings) -> anyhow::Result<()> {
    let path = format!("{PATH}/{id}");
    if server.json {
        println!("{}", server.ask(&path, settings).await?);
        return Ok(());
    }
    let details: DeadLetterDetails = server.get(&path, settings).await?;
    let DeadLetterDetails { letter, times_ms, message_bytes, submitted_ms, payload_key } = details;
    println!("id         {}", letter.id);
    println!("file       {}", letter.file);
    println!("reason     {}", letter.reason);
    match submitted_ms {
        Some(submitted_ms) => println!("submitted  {}", time(submitted_ms)),
        None => println!("submitted  unknown: this release cannot read the message, a newer one may"),
    }
    for given_up_ms in times_ms {
        println!("given up   {}", time(given_up_ms));
    }
    println!("message    {}", ByteSize(message_bytes).display().iec());
    println!("payload    {}", payload_key.as_deref().unwrap_or("in the message"));
    Ok(())
}

/// Sends one request for each selected dead letter.
async fn each(selection: Selection, method: Method, done: &str, settings: &Settings) -> anyhow::Result<()> {
    let Selection { mut ids, all, server } = selection;
    if all {
        let list: List = server.get(PATH, settings).await?;
        ids = list.dead_letters.into_iter().map(|letter| letter.id).collect();
    }
    for id in ids {
        server.send(method.clone(), &format!("{PATH}/{id}"), settings).await?;
        println!("{id} {done}");
    }
    Ok(())
}

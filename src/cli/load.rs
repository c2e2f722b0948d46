//! `rollcall load`: uploads photos as many clients at once, and reports labels, latency, the fleet and stored results.

mod client;
mod fleet;
mod page;
mod photos;
mod prediction;
mod report;
mod tally;
mod verify;

use std::{
    fs::OpenOptions,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::ArgAction;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::server::CA;
use crate::{
    cloud::{ObjectStore, local::LocalObjects},
    settings::{CloudKind, Settings},
};
use client::{Client, Failed, Retries, Upload};
use fleet::{FleetResponse, Sampler};
use photos::{Expectations, Photo};
use report::Report;
use tally::Tally;
use verify::{Completed, StoreProbe};

/// Upload photos as many clients at once, and report labels, latency, the fleet and the stored results.
///
/// The exit code is 0 if every upload was answered, every label was the expected one (if labels are expected), and
/// every result was found in the store; otherwise 1.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// Address to upload to; by default http.listen of this configuration
    #[arg(long)]
    url: Option<String>,
    /// File of the authority, in PEM, that has signed the certificate of an https:// address; by default any that this
    /// machine trusts
    #[arg(long, env = CA, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Number of uploads; by default one per photo
    #[arg(long, value_name = "N", value_parser = positive)]
    requests: Option<usize>,
    /// Number of concurrent uploads
    #[arg(long, value_name = "C", default_value = "8", value_parser = positive)]
    concurrency: usize,
    /// Folder of photos, searched recursively. They are sent in the order of their paths, and again from the first if
    /// there are more uploads than photos
    #[arg(long, visible_alias = "folder", value_name = "DIR", default_value = ".assets/photos")]
    dir: PathBuf,
    /// Name of the form field that carries the photo
    #[arg(long, default_value = "myfile")]
    field: String,
    /// Expected labels: a CSV file with the header Image,Results, where Image is a file name with or without extension
    #[arg(long, value_name = "CSV", conflicts_with = "expect_folder")]
    expected: Option<PathBuf>,
    /// Expect the name of each photo's folder as its label
    #[arg(long)]
    expect_folder: bool,
    /// Time limit for one upload, including retries
    #[arg(long, value_name = "TIME", default_value = "150s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Retry after a broken connection, with the same Idempotency-Key (429 and 503 with Retry-After are always retried)
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    retry: bool,
    /// The server's data folder, in which to look for inputs and outputs; by default that of this configuration, if it
    /// exists
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Do not check the stored results afterwards
    #[arg(long)]
    no_verify: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Write a page with the report over time, beside what `rollcall simulate` predicts for the same arrivals with these
    /// settings and the boot and job times that the fleet has learned
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Hide the progress bar
    #[arg(long)]
    no_progress: bool,
}

/// Parses a number of at least 1.
fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a whole number of at least 1".to_owned())
}

/// Runs the load and prints its report.
///
/// # Errors
/// The arguments cannot be used: there are no photos, the list of labels cannot be read or names none of the photos,
/// the address is invalid, or `--data-dir` does not contain an object store.
pub(super) async fn run(args: Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.html {
        // Before a load that may take long, not after it. An earlier report stays if the load fails.
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let (report, fleet) = measure(&args, settings).await?;
    if let Some(file) = &args.html {
        let page = page::page(&report, fleet.as_ref(), settings)?;
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the load. Returns its report, and the fleet before and after it, if there is one.
#[expect(clippy::disallowed_methods, reason = "measures the makespan")]
async fn measure(args: &Args, settings: &Settings) -> anyhow::Result<(Report, Option<[FleetResponse; 2]>)> {
    let photos = photos::collect(&args.dir)?;
    let requests = args.requests.unwrap_or(photos.len());
    let expectations = expectations(args, &photos)?;
    let url = args.url.clone().unwrap_or_else(|| settings.http.url() + "/");
    let client = Client::new(&url, args.ca.as_deref(), &args.field, args.timeout, args.retry)?;
    let store_probe = store_probe(args, settings)?;

    let bar = progress_bar(requests, args.no_progress);
    let started = Instant::now();
    let before = fleet::now(&client).await;
    let sampler = Sampler::start(client.clone(), started).await;
    let mut tally = Tally::new(expectations.is_some());
    let mut completed = Vec::new();
    let first = Instant::now();
    let mut uploads = stream::iter(photos.iter().cycle().take(requests))
        .map(|photo| {
            let client = client.clone();
            async move { (photo, first.elapsed(), upload(&client, photo).await) }
        })
        .buffer_unordered(args.concurrency);
    while let Some((photo, at, upload)) = uploads.next().await {
        let expected = expectations.as_ref().and_then(|e| e.of(photo));
        tally.add(&photo.relative, expected, at, &upload);
        if let Ok(response) = upload.outcome
            && let Some(id) = response.id
        {
            completed.push(Completed { id, path: photo.path.clone(), label: response.label });
        }
        bar.inc(1);
    }
    let makespan = first.elapsed();
    bar.finish_and_clear();

    let all_named = completed.len() == tally.completed() && !completed.is_empty();
    let different = photos.len().min(requests);
    let mut report = tally.report(url, (requests, args.concurrency), different, makespan);
    if all_named && !args.no_verify {
        report.store = Some(verify::check(&client, store_probe.as_ref(), completed).await);
    }
    report.fleet = sampler.stop();
    let after = fleet::now(&client).await;
    Ok((report, before.zip(after).map(Into::into)))
}

/// Reads the expected labels, if there are any.
fn expectations(args: &Args, photos: &[Photo]) -> anyhow::Result<Option<Expectations>> {
    let expectations = match &args.expected {
        Some(csv) => Expectations::read(csv)?,
        None if args.expect_folder => Expectations::Folder,
        None => return Ok(None),
    };
    let list = args.expected.as_deref().unwrap_or(Path::new("")).display();
    ensure!(
        photos.iter().any(|p| expectations.of(p).is_some()),
        "{list} names none of the photos in {}",
        args.dir.display()
    );
    Ok(Some(expectations))
}

/// Opens the object store, if it is on this machine and in use.
fn store_probe(args: &Args, settings: &Settings) -> anyhow::Result<Option<StoreProbe>> {
    let dir = match (&args.data_dir, settings.cloud.kind) {
        (Some(dir), _) => {
            ensure!(dir.join("objects").is_dir(), "--data-dir {}: there is no object store in it", dir.display());
            dir
        }
        (None, CloudKind::Local) if settings.local.data_dir.join("objects").is_dir() => &settings.local.data_dir,
        (None, CloudKind::Local | CloudKind::Aws) => return Ok(None),
    };
    let objects = LocalObjects::open(dir).with_context(|| format!("cannot open the store in {}", dir.display()))?;
    let objects: Arc<dyn ObjectStore> = Arc::new(objects);
    Ok(Some(StoreProbe { objects, buckets: settings.store.clone() }))
}

async fn upload(client: &Client, photo: &Photo) -> Upload {
    match tokio::fs::read(&photo.path).await {
        Ok(image) => client.upload(photo.file(), image.into()).await,
        Err(error) => Upload {
            outcome: Err(Failed { kind: "photo".into(), message: format!("cannot be read: {error}") }),
            took: Duration::ZERO,
            retries: Retries::default(),
        },
    }
}

fn progress_bar(requests: usize, hidden: bool) -> ProgressBar {
    let target = if hidden || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} uploads, {per_sec}, {eta} left")
        .expect("the template is a constant and known to be valid");
    ProgressBar::with_draw_target(Some(requests as u64), target).with_style(style)
}

#[cfg(test)]
mod tests;

//! `rollcall load`: uploads photos as many clients would, and reports what came back.

mod client;
mod fleet;
mod photos;
mod report;
mod verify;

use std::{
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

use crate::{
    cloud::{ObjectStore, local::LocalObjects},
    settings::{CloudKind, Settings},
};
use client::{Client, Failed, Upload};
use fleet::Sampler;
use photos::{Expectations, Photo};
use verify::{Answered, StoreProbe};

pub use client::Retries;
pub use fleet::Sample;
pub use report::{Answers, FailedUpload, Latency, Mismatch, Report};
pub use verify::StoreCheck;

/// Upload photos as many clients would, and report answers, latency, the fleet, and what the store kept.
///
/// The exit code is 0 if every upload was completed, every answer was the expected one (where one is), and everything
/// that was looked for in the store was found; else 1.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Address that takes the uploads; by default that of the server which this configuration would start
    #[arg(long)]
    pub url: Option<String>,
    /// Uploads in all; by default one of each photo
    #[arg(long, value_name = "N", value_parser = positive)]
    pub requests: Option<usize>,
    /// Uploads at once
    #[arg(long, value_name = "C", default_value = "8", value_parser = positive)]
    pub concurrency: usize,
    /// Folder of photos, searched recursively; sent in the order of their paths, again from the first if N is larger. By
    /// default the sample photos
    #[arg(long, visible_alias = "folder", value_name = "DIR", default_value = ".assets/photos")]
    pub dir: PathBuf,
    /// Name of the form field that carries the photo
    #[arg(long, default_value = "myfile")]
    pub field: String,
    /// List of expected labels (CSV) with the header Image,Results; images by file name, with or without extension
    #[arg(long, value_name = "CSV", conflicts_with = "expect_folder")]
    pub expected: Option<PathBuf>,
    /// Expect each photo to be of the person its folder is named after
    #[arg(long)]
    pub expect_folder: bool,
    /// Longest time for one upload, retries included
    #[arg(long, value_name = "TIME", default_value = "150s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Send again after a broken connection, under the same Idempotency-Key (503 with Retry-After is always retried)
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub retry: bool,
    /// The server's data folder, to look for inputs and outputs in it; by default that of this configuration, if it is
    /// there
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Do not look for the results afterwards
    #[arg(long)]
    pub no_verify: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
    /// Show no progress bar
    #[arg(long)]
    pub no_progress: bool,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "must be a whole number from 1".to_owned())
}

/// Runs the load and prints its report.
///
/// # Errors
/// Arguments that cannot be used: no photos, an unreadable list, a list that names none of the photos, a bad address.
pub async fn run(args: Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let report = measure(&args, settings).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As [`run`], without prints.
pub async fn measure(args: &Args, settings: &Settings) -> anyhow::Result<Report> {
    let photos = photos::collect(&args.dir)?;
    let requests = args.requests.unwrap_or(photos.len());
    let expectations = expectations(args, &photos)?;
    let url = args.url.clone().unwrap_or_else(|| format!("http://{}/", settings.http.listen));
    let client = Client::new(&url, &args.field, args.timeout, args.retry)?;
    let store_probe = store_probe(args, settings)?;

    let bar = progress_bar(requests, args.no_progress);
    let started = Instant::now();
    let sampler = Sampler::start(client.clone(), started).await;
    let mut tally = report::Tally::new(expectations.is_some());
    let mut answered = Vec::new();
    let first = Instant::now();
    let mut uploads = stream::iter(photos.iter().cycle().take(requests))
        .map(|photo| {
            let client = client.clone();
            async move { (photo, upload(&client, photo).await) }
        })
        .buffer_unordered(args.concurrency);
    while let Some((photo, upload)) = uploads.next().await {
        let expected = expectations.as_ref().and_then(|e| e.of(photo));
        tally.add(&photo.relative, expected, &upload);
        if let Ok(answer) = upload.outcome
            && let Some(id) = answer.id
        {
            answered.push(Answered { id, path: photo.path.clone(), label: answer.label });
        }
        bar.inc(1);
    }
    let makespan = first.elapsed();
    bar.finish_and_clear();

    let named = answered.len() == tally.completed() && !answered.is_empty();
    let different = photos.len().min(requests);
    let mut report = tally.report(url, (requests, args.concurrency), different, makespan);
    if named && !args.no_verify {
        report.store = Some(verify::check(&client, store_probe.as_ref(), answered).await);
    }
    report.fleet = sampler.stop();
    Ok(report)
}

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

/// The object store, if it is on this machine and in use.
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
    // The template is a constant that indicatif reads.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} uploads, {per_sec}, {eta} left").expect("valid");
    ProgressBar::with_draw_target(Some(requests as u64), target).with_style(style)
}

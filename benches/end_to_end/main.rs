//! Measures the overhead of HTTP, queue and processes: `cargo bench --bench end_to_end -- --help`.
//!
//! *Bare* is the recognition loop alone (decode to name), with one thread per core. *End to end* is the same photos
//! over HTTP and the durable queue to as many worker processes with one inference thread each, and back. The two
//! alternate, so that other load on the machine affects both.
//!
//! The client runs on the same machine. The ratio is that of a server that has the CPU time which the client takes:
//! images in (time · cores − the client's CPU time), against images of the bare loop in (time · cores).
//!
//! Settings in the environment apply to both, such as `ROLLCALL__RECOGNITION__EMBEDDER` for another model.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

mod bare;
mod client;
mod cpu;
mod photos;
mod report;

use std::{env, path::PathBuf, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use clap::Parser;
use futures_util::future::join_all;
use reqwest::Client;
use rollcall::{
    cloud::local::LocalObjects,
    inference::{
        factory::factory,
        gallery::{Gallery, GalleryStores, cache::GalleryCache},
        model,
    },
    recognition::GalleryName,
    settings::{Int8, Layers, Machine, SFACE_FP32, Settings},
};
use rollcall_testing::{Rollcall, RollcallOptions, uploads::KNOWN, wait_until};

use self::{
    bare::{Bare, Rate},
    photos::Kind,
    report::{Report, Row, Single, median},
};

/// Environment variable of the embedder.
const EMBEDDER: &str = "ROLLCALL__RECOGNITION__EMBEDDER";
/// Longest time until all workers are running.
const START: Duration = Duration::from_secs(60);
/// Single uploads of a kind of photo.
const SINGLES: usize = 200;

/// Measures the overhead of HTTP, queue and processes.
#[derive(Parser)]
struct Options {
    /// Rounds of each case, of which the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of a round in seconds.
    #[arg(long, default_value_t = 3.0)]
    round_s: f64,
    /// Uploads at a time; may be repeated.
    #[arg(long, default_values_t = [1, 8, 64])]
    waiting: Vec<usize>,
    /// Only kinds of photos whose names contain this.
    #[arg(long, default_value = "")]
    photos: String,
    /// Only the embedder of the settings, without the one in fp32.
    #[arg(long)]
    one_model: bool,
    /// Writes the results to this file as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What was measured in one round.
struct Round {
    bare: Rate,
    /// Images per second end to end.
    images: f64,
    ratio: f64,
    /// Milliseconds of CPU per image: of the server, its workers and the client.
    cpu_ms: [f64; 3],
}

/// Returns the settings of the environment on this machine, as the server has them, with another embedder if there is
/// one.
fn settings(embedder: Option<&str>) -> Settings {
    let variables = env::vars().chain(embedder.map(|file| (EMBEDDER.to_owned(), file.to_owned()))).collect();
    let layers = Layers::load(None, variables).expect("the environment's settings exist");
    Settings::from_layers(&layers, Machine { int8: Int8::detect(), ..Machine::with_cores(2) })
        .expect("the environment's settings are allowed")
}

/// A server with all its workers, the bare loop beside it, and a client.
struct Bench<'a> {
    options: &'a Options,
    threads: usize,
    model: String,
    server: Rollcall,
    workers: Vec<u32>,
    bare: Bare,
    client: Client,
}

impl<'a> Bench<'a> {
    async fn start(options: &'a Options, embedder: Option<&str>, warm_up: &Kind) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let settings = settings(embedder);
        let file = settings.recognition.embedder.to_str().expect("a UTF-8 path").to_owned();
        let options_of_server = RollcallOptions::default()
            .enroll(KNOWN)
            .env("ROLLCALL__FLEET__MAX_INSTANCES", &threads.to_string())
            .env("ROLLCALL__WORKER__THREADS", "1")
            .env("ROLLCALL__WORKER__IDLE_STOP", "1h")
            .env(EMBEDDER, &file);
        let server = Rollcall::start(options_of_server).await;
        let objects = LocalObjects::open(server.data_dir()).expect("the server's store");
        let store = GalleryStores::new(Arc::new(objects), &settings).gallery(&GalleryName::default());
        let gallery = GalleryCache::new(store).refresh().await.expect("the server's gallery");
        let bare = Bare::start(threads, &settings.recognition, &gallery);
        let model = model::id(&settings.recognition.embedder).expect("the model is installed").to_string();
        let (client, url, form) = (Client::new(), server.url("/"), client::form(&warm_up.photos[0]));
        wait_until("all workers run", START, async || {
            join_all((0..4 * threads).map(|_| client::post(&client, &url, &form))).await;
            server.fleet().await["counts"]["running"] == threads
        })
        .await;
        let workers = server.worker_pids().await;
        bare.rate(&warm_up.photos, Duration::from_secs(1)).await;
        Self { options, threads, model, server, workers, bare, client }
    }

    /// Measures one case in rounds that alternate.
    async fn case(&self, kind: &Kind, forms: &[Bytes], waiting: usize) -> Row {
        let length = Duration::from_secs_f64(self.options.round_s);
        let (url, parent) = (self.server.url("/"), [self.server.pid()]);
        let mut response_times = client::times();
        let mut rounds: Vec<Round> = Vec::new();
        for _ in 0..self.options.rounds {
            let bare = self.bare.rate(&kind.photos, length).await;
            let used = || [cpu::of(&parent), cpu::of(&self.workers), cpu::own()];
            let (started, before) = (std::time::Instant::now(), used());
            let times = client::round(&self.client, &url, forms, waiting, length).await;
            let (took, after) = (started.elapsed().as_secs_f64(), used());
            let images = times.len() as f64;
            let cpu_ms: [f64; 3] = std::array::from_fn(|i| (after[i] - before[i]).as_secs_f64() * 1e3 / images);
            let without_client = images / (took - cpu_ms[2] * images / 1e3 / self.threads as f64);
            rounds.push(Round { bare, images: images / took, ratio: without_client / bare.images, cpu_ms });
            response_times.add(times).expect("in range");
        }
        let of = |value: fn(&Round) -> f64| median(rounds.iter().map(value));
        Row {
            model: self.model.clone(),
            photos: kind.name,
            waiting,
            bare_images_per_s: of(|round| round.bare.images),
            images_per_s: of(|round| round.images),
            ratio: of(|round| round.ratio),
            bare_cpu_ms: of(|round| round.bare.cpu_ms),
            parent_cpu_ms: of(|round| round.cpu_ms[0]),
            worker_extra_cpu_ms: of(|round| round.cpu_ms[1] - round.bare.cpu_ms),
            client_cpu_ms: of(|round| round.cpu_ms[2]),
            p50_ms: client::quantile_ms(&response_times, 0.5),
            p99_ms: client::quantile_ms(&response_times, 0.99),
        }
    }

    /// Measures single uploads, each next to a bare recognition of the same photo.
    async fn singles(&self, kind: &Kind, forms: &[Bytes]) -> Single {
        let (mut alone, mut whole, url) = (client::times(), client::times(), self.server.url("/"));
        for (photo, form) in kind.photos.iter().zip(forms).cycle().take(SINGLES) {
            alone.record(self.bare.one(photo.clone()).as_micros() as u64).expect("in range");
            let took = client::post(&self.client, &url, form).await;
            whole.record(took.as_micros() as u64).expect("in range");
        }
        let added = |quantile| client::quantile_ms(&whole, quantile) - client::quantile_ms(&alone, quantile);
        Single {
            model: self.model.clone(),
            photos: kind.name,
            bare_p50_ms: client::quantile_ms(&alone, 0.5),
            added_p50_ms: added(0.5),
            added_p99_ms: added(0.99),
        }
    }
}

/// Checks that the faces of the photos are found, so that the work is as the table says.
fn check_faces(kinds: &[Kind]) {
    let mut recogniser = factory(&settings(None).recognition).build().expect("the models are installed");
    for kind in kinds {
        let Some(expected) = kind.faces else { continue };
        for photo in kind.photos.iter() {
            let found = recogniser.recognise(photo, &Gallery::default(), false).expect("a photo is recognised");
            assert_eq!(found.faces.len(), expected, "{}", kind.name);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let options = Options::parse();
    let kinds: Vec<Kind> = photos::all().into_iter().filter(|kind| kind.name.contains(&options.photos)).collect();
    check_faces(&kinds);
    let mut report = Report { rounds: options.rounds, round_s: options.round_s, ..Report::default() };
    let chosen = settings(None).recognition.embedder;
    let both = !options.one_model && chosen != *SFACE_FP32;
    Row::print_head();
    for embedder in [None].into_iter().chain(both.then_some(Some(SFACE_FP32))) {
        let bench = Bench::start(&options, embedder, &kinds[0]).await;
        report.threads = bench.threads;
        for kind in &kinds {
            let forms: Vec<Bytes> = kind.photos.iter().map(client::form).collect();
            for &waiting in &options.waiting {
                let row = bench.case(kind, &forms, waiting).await;
                row.print();
                report.rows.push(row);
            }
            let single = bench.singles(kind, &forms).await;
            single.print();
            report.singles.push(single);
        }
        let (parent, worker) = (cpu::peak_mb(&[bench.server.pid()]), cpu::peak_mb(&bench.workers));
        println!("{:<18} peak memory: parent {parent:.0} MB, worker {worker:.0} MB", bench.model);
        report.peak_mb.push((bench.model.clone(), parent, worker));
    }
    if let Some(file) = options.json {
        let json = serde_json::to_vec_pretty(&report).expect("numbers and names");
        std::fs::write(&file, json).expect("the file can be written");
    }
}

//! A server with the gallery: how soon all workers know of a change, what it moves, and what memory they take.

use std::{
    collections::HashSet,
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use reqwest::{Client, multipart::Form};
use rollcall::{
    cloud::{ObjectStore as _, local::LocalObjects},
    inference::gallery::{GalleryStores, Person},
    recognition::{GalleryName, ModelId},
    settings::{Layers, Machine, Settings},
};
use rollcall_testing::{
    Rollcall, RollcallOptions,
    uploads::{ARDERN, MACRON, file, form, photo},
};
use serde_json::Value;

use super::population::DIMENSION;

/// Workers of the server.
const WORKERS: usize = 2;
/// The model of the embeddings.
const MODEL: &str = "sface-2021dec";

/// Writes the gallery, serves it, adds and removes a person, and prints what was measured.
pub async fn measure(rows: Vec<f32>, photos: usize) -> anyhow::Result<()> {
    let options = RollcallOptions::default()
        .env("ROLLCALL__FLEET__MAX_INSTANCES", &WORKERS.to_string())
        .env("ROLLCALL__WORKER__THREADS", "1")
        .env("ROLLCALL__WORKER__IDLE_STOP", "1h")
        .env("ROLLCALL__GALLERY__MAX_PEOPLE", "1000000");
    let server = Rollcall::start(options).await;
    let objects = LocalObjects::open(server.data_dir())?;
    let mut settings = Settings::from_layers(&Layers::load(None, Default::default())?, Machine::with_cores(WORKERS))?;
    settings.gallery.max_people = 1_000_000;
    settings.local.data_dir = server.data_dir().to_owned();
    let gallery = GalleryStores::new(std::sync::Arc::new(LocalObjects::open(server.data_dir())?), &settings)
        .gallery(&GalleryName::default());
    let people = rows.chunks(photos * DIMENSION).enumerate().map(|(number, rows)| {
        Person::new(format!("person {number:06}"), rows.chunks(DIMENSION).map(<[f32]>::to_vec).collect())
    });
    let people: Vec<Person> = people.collect();
    drop(rows);
    let model = ModelId::try_from(MODEL.to_owned()).map_err(anyhow::Error::msg)?;
    let (written, took) = timed(gallery.add_people(people, model)).await;
    println!("{} people written in {:.1} s", written?.people(), took.as_secs_f64());

    let (_, took) = timed(all_workers(&server, MACRON)).await;
    println!("{WORKERS} workers started, and the index built, in {:.1} s", took.as_secs_f64());
    let keys = async || objects.list(&settings.store.state, "gallery/").await;
    for change in ["added", "removed"] {
        let before = keys().await?;
        let (changed, took) = timed(change_person(&server, change)).await;
        changed?;
        let moved: u64 = keys()
            .await?
            .iter()
            .filter(|object| object.key.ends_with("/current") || !before.contains(object))
            .map(|object| object.size)
            .sum();
        let ((), known) = timed(all_workers(&server, ARDERN)).await;
        println!(
            "{change} in {:.0} ms, known to all workers {:.0} ms later; each reads {:.0} KB",
            took.as_secs_f64() * 1e3,
            known.as_secs_f64() * 1e3,
            moved as f64 / 1e3
        );
    }
    for pid in server.worker_pids().await {
        println!("worker: {} MB of its own, {} MB shared files", memory(pid, "RssAnon")?, memory(pid, "RssFile")?);
    }
    Ok(())
}

/// Adds a person with a photo, or removes them.
async fn change_person(server: &Rollcall, change: &str) -> anyhow::Result<()> {
    let client = Client::new();
    let response = if change == "added" {
        let form = Form::new().text("name", "Jacinda Ardern").part("photos", file("face.jpg", &photo(ARDERN)));
        client.post(server.url("/v1/people")).multipart(form).send().await?
    } else {
        client.delete(server.url("/v1/people/Jacinda%20Ardern")).send().await?
    };
    response.error_for_status()?;
    Ok(())
}

/// Uploads a photo until each worker has answered; the answers have the newest version of the gallery.
async fn all_workers(server: &Rollcall, path: &str) {
    let (photo, client) = (photo(path), Client::new());
    let mut answered = HashSet::new();
    while answered.len() < WORKERS {
        let sent = (0..4 * WORKERS).map(|_| async {
            let request = client.post(server.url("/v1/recognitions")).multipart(form(&[("a.jpg", &photo)]));
            let body: Value = request.send().await.ok()?.json().await.ok()?;
            body["worker"].as_str().map(str::to_owned)
        });
        answered.extend(futures_util::future::join_all(sent).await.into_iter().flatten());
    }
}

/// Returns a line of `/proc/PID/status`, in megabytes.
fn memory(pid: u32, what: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).context("no such line")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes / 1024)
}

#[expect(clippy::disallowed_methods, reason = "measures")]
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let result = work.await;
    (result, start.elapsed())
}

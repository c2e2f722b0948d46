//! A full disk refuses uploads and loses none that was accepted; when there is room again, the server goes on by itself.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rollcall_testing::http::Client;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, peak_memory, small_disks_work, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(120);

/// Uploads an image asynchronously. Returns the id of the job, or `None` if the upload is refused.
async fn upload(server: &Rollcall, client: &Client) -> Option<String> {
    let request = client.post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let response = request.multipart(form(&[("x.png", &faceless(64, 64))])).send().await.expect("a response");
    match response.status().as_u16() {
        202 => {
            let body: Value = response.json().await.expect("JSON");
            Some(body["id"].as_str().expect("an id").to_owned())
        }
        503 => {
            assert!(response.headers().contains_key("retry-after"));
            None
        }
        status => panic!("{status}: {}", response.text().await.unwrap_or_default()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_uploads_until_it_has_room_and_no_accepted_job_is_lost() {
    if !small_disks_work() {
        println!("SKIPPED: this user may not mount disks");
        return;
    }
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__LOCAL__MIN_FREE", "0B").disk("48m")).await;
    let client = Client::new();
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.extend(upload(&server, &client).await);
    }
    assert_eq!(accepted.len(), 5);

    let filler = fill(&server);
    // Until the queue's file cannot be written either.
    let mut refused = 0;
    wait_until("uploads are refused", TIMEOUT, async || {
        match upload(&server, &client).await {
            Some(id) => accepted.push(id),
            None => refused += 1,
        }
        refused >= 20
    })
    .await;

    std::fs::remove_file(filler).expect("removed");
    wait_until("uploads are accepted again", TIMEOUT, async || {
        let id = upload(&server, &client).await;
        let is_accepted = id.is_some();
        accepted.extend(id);
        is_accepted
    })
    .await;
    wait_until_done(&server, &accepted).await;
}

/// Fills the disk of the data folder with a file, and returns its path.
fn fill(server: &Rollcall) -> PathBuf {
    let path = server.mounted_data_dir().join("filler");
    let mut file = File::create(&path).expect("created");
    let full = std::iter::repeat_with(|| file.write_all(&[7; 4096])).find_map(Result::err).expect("the disk is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    path
}

async fn wait_until_done(server: &Rollcall, accepted: &[String]) {
    for id in accepted {
        let url = server.url(&format!("/v1/recognitions/{id}"));
        wait_until("an accepted job is done", TIMEOUT, async || {
            let result: Value =
                rollcall_testing::http::get(&url).await.expect("a response").json().await.expect("JSON");
            result["status"] == "done"
        })
        .await;
    }
}

/// Clients that upload all the time.
const CLIENTS: usize = 8;
/// Most memory of the server: what it takes under load, and the caches of the queue and of its file (64 MiB each).
const MAX_MEMORY: usize = 400 << 20;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    accepted: Vec<String>,
    refused: usize,
    /// Of the upload that was accepted last.
    last: Option<Instant>,
}

/// Longest time until uploads are accepted again, where that is measured.
const AGAIN: Duration = Duration::from_secs(5);

/// `ROLLCALL_FULL_DISK_SECONDS` is how long the disk is full (default 5). With it, the times count too.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_stays_full_under_load_takes_no_memory_and_uploads_go_on_when_it_has_room() {
    if !small_disks_work() {
        println!("SKIPPED: this user may not mount disks");
        return;
    }
    let measured = std::env::var("ROLLCALL_FULL_DISK_SECONDS").ok().map(|text| text.parse::<u64>().expect("seconds"));
    let seconds = measured.unwrap_or(5);
    let options =
        RollcallOptions::default().env("ROLLCALL__LOCAL__MIN_FREE", "0B").env("ROLLCALL__LOG__LEVEL", "error");
    let server = Arc::new(Rollcall::start(options.disk("256m")).await);
    let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (server, seen, stop) = (server.clone(), seen.clone(), stop.clone());
            tokio::spawn(async move {
                let client = Client::new();
                while !stop.load(Ordering::Relaxed) {
                    let upload = upload(&server, &client).await;
                    let pause = Duration::from_millis(if upload.is_some() { 100 } else { 20 });
                    {
                        let mut seen = seen.lock().expect("no panic");
                        match upload {
                            Some(id) => {
                                seen.accepted.push(id);
                                seen.last = Some(Instant::now());
                            }
                            None => seen.refused += 1,
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
            })
        })
        .collect();
    let accepted = || seen.lock().expect("no panic").accepted.len();
    let refused = || seen.lock().expect("no panic").refused;
    wait_until("uploads are accepted", TIMEOUT, async || accepted() >= 50).await;
    assert_eq!(refused(), 0);

    let filler = fill(&server);
    wait_until("uploads are refused", TIMEOUT, async || refused() >= 50).await;
    tokio::time::sleep(Duration::from_secs(seconds) / 2).await;
    let half_way = accepted();
    tokio::time::sleep(Duration::from_secs(seconds) / 2).await;
    let (while_full, in_time) = (refused(), seen.lock().expect("no panic").last);
    let before = accepted();

    let freed = Instant::now();
    std::fs::remove_file(filler).expect("removed");
    wait_until("uploads are accepted again", TIMEOUT, async || accepted() > before).await;
    let again = freed.elapsed();
    wait_until("many of them", TIMEOUT, async || accepted() >= before + 50).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no panic");
    }
    let memory = peak_memory(server.pid());
    println!(
        "{seconds} s full: {while_full} uploads refused, the last accepted one {:.1} s before there was room; accepted again \
         after {again:.1?}; {} accepted in all; {} MiB of memory",
        in_time.map_or(0.0, |at| (freed - at).as_secs_f64()),
        accepted(),
        memory >> 20
    );
    assert!(memory < MAX_MEMORY, "{} MiB", memory >> 20);
    if measured.is_some() {
        assert_eq!(half_way, before, "none is accepted while the disk is full");
        assert!(again < AGAIN, "{again:?}");
    }
    let accepted = std::mem::take(&mut seen.lock().expect("no panic").accepted);
    wait_until_done(&server, &accepted).await;
}

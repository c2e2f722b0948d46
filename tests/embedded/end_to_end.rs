//! From the upload to the response, with real worker processes: names are right, bad uploads are refused with a reason,
//! the fleet grows from zero and shrinks back to zero, and no accepted job is lost when processes are killed.

use std::{collections::BTreeSet, fs, path::Path, pin::pin, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::http::{Client, Response, multipart::Form};
use rollcall_testing::uploads::{ARDERN, KNOWN, MACRON, STRANGER, file, form, photo, post};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn start(env: &[(&str, &str)]) -> Rollcall {
    let options = RollcallOptions::default().enroll(KNOWN);
    Rollcall::start(env.iter().fold(options, |options, (key, value)| options.env(key, value))).await
}

async fn send(server: &Rollcall, name: &str, bytes: &[u8]) -> Response {
    post(&server.url("/"), form(&[(name, bytes)])).await
}

fn signal(pids: &[u32], signal: Signal) {
    for &pid in pids {
        let _ = kill(Pid::from_raw(pid as i32), signal); // it may have ended
    }
}

/// Returns the running workers' process ids, of which there is at least one.
async fn running(server: &Rollcall) -> Vec<u32> {
    wait_until("a worker runs", TIMEOUT, async || server.fleet().await["counts"]["running"] != 0).await;
    server.worker_pids().await
}

/// Returns the ids of all worker processes, whatever the states of their instances.
async fn workers(server: &Rollcall) -> Vec<u64> {
    let fleet = server.fleet().await;
    fleet["instances"].as_array().into_iter().flatten().filter_map(|i| i["pid"].as_u64()).collect()
}

/// Returns the ids of the server's child processes, whatever it reports.
fn children(server: &Rollcall) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("proc(5)").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent(*pid) == Some(server.pid())).collect()
}

/// Returns the parent of a process: the second field after its name, which is in parentheses. `None` if it has ended.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_named_and_strangers_are_not() {
    let server = start(&[]).await;
    assert!(workers(&server).await.is_empty(), "the fleet starts from nothing");
    for (path, label) in [(MACRON, "Emmanuel_Macron"), (ARDERN, "Jacinda_Ardern"), (STRANGER, "unknown")] {
        let response = send(&server, "same-name.jpg", &photo(path)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.expect("text"), label, "{path}");
    }
    assert!(!workers(&server).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_are_refused_with_a_message_and_the_next_good_one_works() {
    let server = start(&[("ROLLCALL__HTTP__MAX_UPLOAD", "1MiB")]).await;
    let mut cut = photo(MACRON);
    cut.truncate(cut.len() / 2);
    for (name, bytes, status) in [
        ("text.jpg", b"this is no photo".to_vec(), 415),
        ("cut.jpg", cut, 422),
        ("large.jpg", vec![7; 3 << 20], 413),
        ("../../up.jpg", photo(MACRON), 200),
    ] {
        let response = send(&server, name, &bytes).await;
        assert_eq!(response.status(), status, "{name}");
        assert!(!response.text().await.expect("text").is_empty(), "{name}");
    }
    let empty = Client::new().post(server.url("/")).send().await.expect("a response");
    assert_eq!(empty.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_grows_under_load_within_its_cap_and_shrinks_to_zero() {
    let server = start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2"), ("ROLLCALL__WORKER__IDLE_STOP", "2s")]).await;
    let uploads = (0..20).map(|i| {
        let (path, label) = [(MACRON, "Emmanuel_Macron"), (ARDERN, "Jacinda_Ardern")][i % 2];
        let server = &server;
        async move { assert_eq!(send(server, "photo.jpg", &photo(path)).await.text().await.expect("text"), label) }
    });
    let mut uploads = pin!(futures_util::future::join_all(uploads));
    let (mut most, mut shown) = (0, 0);
    loop {
        let look = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            (children(&server).len(), workers(&server).await.len())
        };
        tokio::select! {
            _ = &mut uploads => break,
            (processes, of_fleet) = look => (most, shown) = (most.max(processes), shown.max(of_fleet)),
        }
    }
    assert_eq!((most, shown), (2, 2), "processes and workers of the fleet, at any time: {}", server.fleet().await);
    wait_until("completed uploads are no demand", TIMEOUT, async || server.fleet().await["demand"] == 0).await;
    wait_until("no worker is left", TIMEOUT, async || workers(&server).await.is_empty()).await;
    let left = children(&server);
    assert!(left.is_empty(), "processes that the fleet does not show: {left:?}");
    let fleet = server.fleet().await;
    assert_eq!(fleet["depth"]["visible"], 0);
    let events = fleet["events"].as_array().expect("events");
    let calls =
        events.iter().filter_map(|line| line["kind"].as_str().filter(|kind| ["launch", "start"].contains(kind)));
    assert_eq!(calls.collect::<BTreeSet<_>>(), BTreeSet::from(["launch"]), "none is started again for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_jobs_survive_kills_of_workers_and_of_the_parent() {
    let mut server = start(&[]).await;
    let client = Client::new();
    let mut ids = Vec::new();
    for i in 0..40 {
        // Workers that are stopped receive a job and keep it in flight.
        let stopped = if i % 15 == 14 { running(&server).await } else { Vec::new() };
        signal(&stopped, Signal::SIGSTOP);
        let form = form(&[(&format!("{i}.jpg"), &photo(MACRON))]);
        let request = client.post(server.url("/v1/recognitions")).header("Prefer", "respond-async").multipart(form);
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 202);
        ids.push(response.json::<Value>().await.expect("JSON")["id"].as_str().expect("an id").to_owned());
        if !stopped.is_empty() {
            wait_until("a job is in flight", TIMEOUT, async || {
                server.fleet().await["depth"]["in_flight"].as_u64() > Some(0)
            })
            .await;
            signal(&stopped, Signal::SIGKILL);
        }
    }
    let workers = running(&server).await;
    assert!(!workers.is_empty());
    server.kill9();
    server.restart().await;
    wait_until("no worker outlives its parent", TIMEOUT, async || {
        workers.iter().all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists())
    })
    .await;
    for id in ids {
        wait_until("every accepted job is done", TIMEOUT, async || {
            let response = client.get(server.url(&format!("/v1/recognitions/{id}"))).send().await.expect("a response");
            let result: Value = response.json().await.expect("JSON");
            result["recognition"]["label"] == "Emmanuel_Macron" || result["label"] == "Emmanuel_Macron"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_added_over_http_is_known_at_once_and_forgotten_when_removed() {
    let server = start(&[]).await;
    let form = Form::new().text("name", "Rishi Sunak").part("photo", file("b.jpg", &photo(STRANGER)));
    let client = Client::new();
    let added = client.post(server.url("/v1/people")).multipart(form).send().await.expect("a response");
    assert_eq!(added.status(), 201, "{}", added.text().await.unwrap_or_default());
    assert_eq!(send(&server, "b.jpg", &photo(STRANGER)).await.text().await.expect("text"), "Rishi Sunak");
    let removed = client.delete(server.url("/v1/people/Rishi%20Sunak")).send().await.expect("a response");
    assert_eq!(removed.status(), 204);
    assert_eq!(send(&server, "b.jpg", &photo(STRANGER)).await.text().await.expect("text"), "unknown");
}

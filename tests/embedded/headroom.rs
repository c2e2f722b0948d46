//! Before the queue, the data folder or the disk is full, uploads and new people are refused; what was accepted is done,
//! and the server goes on by itself.

use std::{fs::File, io::Write as _, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::http::{Client, Response};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, small_disks_work, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
const MIB: u64 = 1 << 20;

/// Uploads an image asynchronously.
async fn upload(server: &Rollcall) -> Response {
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    request.multipart(form(&[("x.png", &faceless(64, 64))])).send().await.expect("a response")
}

async fn id(accepted: Response) -> String {
    let body: Value = accepted.json().await.expect("JSON");
    body["id"].as_str().expect("an id").to_owned()
}

/// Checks that a response refuses, and names the setting.
async fn assert_refuses(response: Response, setting: &str) {
    let (status, retry) = (response.status(), response.headers().contains_key("retry-after"));
    let text = response.text().await.expect("text");
    assert!(status == 503 && retry && text.contains(setting), "{status}: {text}");
}

async fn get(server: &Rollcall, path: &str) -> Response {
    rollcall_testing::http::get(server.url(path)).await.expect("a response")
}

/// Waits until the server is ready.
async fn wait_until_ready(server: &Rollcall) {
    wait_until("readiness follows", TIMEOUT, async || get(server, "/readyz").await.status() == 200).await;
}

/// Waits until the server is not ready because of a setting.
async fn wait_until_not_ready(server: &Rollcall, setting: &str) {
    wait_until("readiness follows", TIMEOUT, async || {
        let response = get(server, "/readyz").await;
        response.status() == 503 && response.text().await.expect("text").contains(setting)
    })
    .await;
}

/// Checks that everything that adds is refused and that the server lives.
async fn assert_nothing_is_accepted(server: &Rollcall, setting: &str) {
    assert_refuses(get(server, "/readyz").await, setting).await;
    assert_refuses(upload(server).await, setting).await;
    assert_refuses(post(&server.url("/"), form(&[("x.png", &faceless(64, 64))])).await, setting).await;
    let person = form(&[("x.png", &faceless(64, 64))]).text("name", "Ada");
    assert_refuses(post(&server.url("/v1/people"), person).await, setting).await;
    assert_eq!(get(server, "/healthz").await.status(), 200);
}

async fn wait_until_done(server: &Rollcall, ids: &[String]) {
    for id in ids {
        wait_until("an accepted job is done", TIMEOUT, async || {
            let result: Value = get(server, &format!("/v1/recognitions/{id}")).await.json().await.expect("JSON");
            result["status"] == "done"
        })
        .await;
    }
}

/// Returns the value of a metric.
async fn metric(server: &Rollcall, name: &str) -> Option<u64> {
    let all = get(server, "/metrics").await.text().await.expect("text");
    let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    value.map(|value| value.parse::<f64>().expect("a number") as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_uploads_until_workers_have_taken_jobs_from_it() {
    let options = RollcallOptions::default()
        .env("ROLLCALL__QUEUE__MAX_JOBS", "5")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "1")
        .env("ROLLCALL__WORKER__IDLE_STOP", "10m");
    let server = Rollcall::start(options).await;
    let warm = post(&server.url("/"), form(&[("warm.png", &faceless(64, 64))])).await;
    assert_eq!(warm.status(), 200);
    server.wait_until_queue_is_empty().await;
    let workers = server.worker_pids().await;
    for &pid in &workers {
        kill(Pid::from_raw(pid as i32), Signal::SIGSTOP).expect("the worker is there");
    }

    let mut accepted = Vec::new();
    wait_until("uploads are refused", TIMEOUT, async || {
        let response = upload(&server).await;
        if response.status() == 202 {
            accepted.push(id(response).await);
            return false;
        }
        assert_refuses(response, "queue.max_jobs").await;
        true
    })
    .await;
    assert!(accepted.len() >= 5, "{}", accepted.len());
    assert_nothing_is_accepted(&server, "queue.max_jobs").await;

    for &pid in &workers {
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGCONT); // it may have been replaced
    }
    wait_until_ready(&server).await;
    let response = upload(&server).await;
    assert_eq!(response.status(), 202);
    accepted.push(id(response).await);
    wait_until_done(&server, &accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_refuses_uploads_before_it_is_full_and_deletions_go_on() {
    if !small_disks_work() {
        println!("SKIPPED: this user may not mount disks");
        return;
    }
    let options = RollcallOptions::default().env("ROLLCALL__LOCAL__MIN_FREE", "16MiB").disk("64m");
    let server = Rollcall::start(options).await;
    let accepted = id(upload(&server).await).await;
    wait_until_done(&server, std::slice::from_ref(&accepted)).await;

    let filler = server.mounted_data_dir().join("filler");
    let mut file = File::create(&filler).expect("created");
    let free = || {
        let stat = nix::sys::statvfs::statvfs(&server.mounted_data_dir()).expect("a disk");
        stat.blocks_available() * stat.fragment_size()
    };
    while free() >= 15 * MIB {
        file.write_all(&[7; 64 << 10]).expect("the disk has room");
    }
    wait_until_not_ready(&server, "local.min_free").await;
    assert_nothing_is_accepted(&server, "local.min_free").await;
    assert!(free() > 10 * MIB, "the disk was never full");
    assert!(metric(&server, "rollcall_disk_free_bytes").await.expect("a metric") < 16 * MIB);
    let deleted = Client::new().delete(server.url(&format!("/v1/recognitions/{accepted}"))).send().await;
    assert_eq!(deleted.expect("a response").status(), 204);

    drop(file);
    std::fs::remove_file(filler).expect("removed");
    wait_until_ready(&server).await;
    let accepted = upload(&server).await;
    assert_eq!(accepted.status(), 202);
    wait_until_done(&server, &[id(accepted).await]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_data_folder_refuses_uploads_and_the_metrics_show_its_bytes() {
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__LOCAL__MAX_BYTES", "64MiB")).await;
    let accepted = id(upload(&server).await).await;
    wait_until_done(&server, &[accepted]).await;
    let objects = r#"rollcall_disk_bytes{kind="objects"}"#;
    wait_until("the sizes are metrics", TIMEOUT, async || metric(&server, objects).await.is_some_and(|b| b > 0)).await;
    assert!(metric(&server, r#"rollcall_disk_bytes{kind="queue"}"#).await.expect("a metric") > 0);
    assert!(metric(&server, "rollcall_disk_free_bytes").await.expect("a metric") > 0);

    let filler = server.data_dir().join("objects/filler");
    std::fs::write(&filler, vec![7; 65 * MIB as usize]).expect("written");
    wait_until_not_ready(&server, "local.max_bytes").await;
    assert_nothing_is_accepted(&server, "local.max_bytes").await;
    wait_until("the metric follows", TIMEOUT, async || metric(&server, objects).await > Some(65 * MIB)).await;

    std::fs::remove_file(&filler).expect("removed");
    wait_until_ready(&server).await;
    assert_eq!(upload(&server).await.status(), 202);
}

//! A job that kills every worker ends with a failed result as a dead letter, which can be sent again or purged.

use std::{process::Command, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::http::{Client, Method};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, program, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);

fn send(pids: &[u32], signal: Signal) {
    for &pid in pids {
        let _ = kill(Pid::from_raw(pid as i32), signal); // it may have ended
    }
}

/// Starts a server that gives up a job after one receive, with a worker that waits for a job.
pub async fn start() -> Rollcall {
    let options = RollcallOptions::default()
        .env("ROLLCALL__QUEUE__MAX_RECEIVES", "1")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "1")
        .env("ROLLCALL__FLEET__POLL_EVERY", "100ms")
        .env("ROLLCALL__WORKER__IDLE_STOP", "60s");
    let server = Rollcall::start(options.enroll(KNOWN)).await;
    let warm = post(&server.url("/"), form(&[("warm.png", &faceless(64, 64))])).await;
    assert_eq!(warm.status(), 200);
    server.wait_until_queue_is_empty().await;
    server
}

/// Has the worker receive a job, and kills it before it begins the job. Returns the job's id.
pub async fn kill_the_worker_that_receives(server: &Rollcall, photo: &[u8]) -> String {
    send(&server.worker_pids().await, Signal::SIGSTOP);
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = request.multipart(form(&[("poison.jpg", photo)])).send().await.expect("a response");
    assert_eq!(accepted.status(), 202);
    let body: Value = accepted.json().await.expect("JSON");
    wait_until("the stopped worker has received the job", TIMEOUT, async || {
        server.fleet().await["depth"]["in_flight"] == 1
    })
    .await;
    send(&server.worker_pids().await, Signal::SIGKILL);
    body["id"].as_str().expect("an id").to_owned()
}

async fn result(server: &Rollcall, id: &str) -> Value {
    let url = server.url(&format!("/v1/recognitions/{id}"));
    rollcall_testing::http::get(&url).await.expect("a response").json().await.expect("JSON")
}

pub async fn wait_for_status(server: &Rollcall, id: &str, status: &str) {
    wait_until(status, TIMEOUT, async || result(server, id).await["status"] == status).await;
}

/// Runs `rollcall dead` with arguments, and returns its output.
fn dead(server: &Rollcall, args: &[&str]) -> (bool, String) {
    let mut command = Command::new(program());
    command.arg("dead").args(args).args(["--url", server.url("").trim_end_matches('/')]);
    let output = command.output().expect("the program runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("UTF-8"))
}

async fn request(server: &Rollcall, method: Method, path: &str) -> u16 {
    Client::new().request(method, server.url(path)).send().await.expect("a response").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_workers_die_before_they_begin_it_fails_and_is_done_when_it_is_sent_again() {
    let server = start().await;
    let id = kill_the_worker_that_receives(&server, &photo(MACRON)).await;
    wait_for_status(&server, &id, "failed").await;
    let end = result(&server, &id).await;
    assert!(end["problem"]["detail"].as_str().expect("a reason").contains("given up after one attempt"), "{end}");
    server.wait_until_queue_is_empty().await;

    let (ok, list) = dead(&server, &["list"]);
    assert!(ok && list.starts_with(&id) && list.contains("poison.jpg: given up after one attempt"), "{list}");
    let (ok, details) = dead(&server, &["show", &id]);
    assert!(ok, "{details}");
    for line in [format!("id         {id}\n"), "file       poison.jpg\n".into(), "payload    in the message\n".into()] {
        assert!(details.contains(&line), "{details}");
    }
    assert_eq!(
        (details.matches("submitted  20").count(), details.matches("given up   20").count()),
        (1, 1),
        "{details}"
    );
    let metrics =
        rollcall_testing::http::get(server.url("/metrics")).await.expect("a response").text().await.expect("text");
    assert!(metrics.contains("rollcall_dead_letters_total 1"), "{metrics}");

    assert_eq!(dead(&server, &["retry", &id]), (true, format!("{id} sent again\n")));
    wait_for_status(&server, &id, "done").await;
    assert_eq!(result(&server, &id).await["label"], "Emmanuel_Macron");
    assert_eq!(dead(&server, &["list"]), (true, String::new()));
    let (ok, why) = dead(&server, &["retry", &id]);
    assert!(!ok && why.contains("is not a dead letter"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_purged_with_its_photo() {
    let server = start().await;
    let id = kill_the_worker_that_receives(&server, &photo(MACRON)).await;
    wait_for_status(&server, &id, "failed").await;
    let path = format!("/v1/dead-letters/{id}");
    assert_eq!(request(&server, Method::DELETE, &path).await, 204);
    assert_eq!(request(&server, Method::DELETE, &path).await, 404);
    assert_eq!(request(&server, Method::POST, &path).await, 404);
    assert_eq!(request(&server, Method::GET, &path).await, 404);
    assert_eq!(request(&server, Method::POST, "/v1/dead-letters/x").await, 400);
    assert_eq!(request(&server, Method::GET, &format!("/v1/recognitions/{id}")).await, 404);
    assert_eq!(dead(&server, &["purge", "--all"]), (true, String::new()));
}

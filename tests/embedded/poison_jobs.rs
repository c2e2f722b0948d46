//! A job that kills every worker becomes a dead letter, and its result is a failure.

use std::time::Duration;

use image::{DynamicImage, ImageFormat, RgbImage};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Client;
use rollcall::cloud::{QueueSpec, Queues as _, local::Broker};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);

fn send(pids: &[u32], signal: Signal) {
    for &pid in pids {
        let _ = kill(Pid::from_raw(pid as i32), signal); // it may have ended
    }
}

#[tokio::test]
async fn a_job_that_kills_every_worker_ends_as_a_dead_letter_with_a_failed_result() {
    let options = RollcallOptions::default()
        .env("ROLLCALL__QUEUE__MAX_RECEIVES", "2")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "1")
        .env("ROLLCALL__FLEET__POLL_EVERY", "100ms")
        .env("ROLLCALL__WORKER__IDLE_STOP", "60s");
    let mut server = Rollcall::start(options.enroll(KNOWN)).await;
    let warm = post(&server.url("/"), form(&[("warm.png", &faceless(64, 64))])).await;
    assert_eq!(warm.status(), 200);
    // The fleet shows the depth that it read last: within a second it has read the queue several times.
    let mut empty_for = 0;
    wait_until("the first job has left the queue", TIMEOUT, async || {
        let depth = &server.fleet().await["depth"];
        empty_for = if depth["visible"] == 0 && depth["in_flight"] == 0 { empty_for + 1 } else { 0 };
        empty_for == 20
    })
    .await;

    // The first worker is stopped before the job comes: it receives the job and never begins it.
    send(&server.worker_pids().await, Signal::SIGSTOP);
    // Decoding so many pixels takes a worker long enough to be killed in the meantime.
    let large = encode(DynamicImage::from(RgbImage::new(7_000, 7_000)), ImageFormat::Png);
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = request.multipart(form(&[("poison.png", &large)])).send().await.expect("a response");
    assert_eq!(accepted.status(), 202);
    let url = server.url(accepted.headers()["location"].to_str().expect("ASCII"));
    let result = async || -> Value { reqwest::get(&url).await.expect("a response").json().await.expect("JSON") };
    wait_until("the stopped worker has received the job", TIMEOUT, async || {
        server.fleet().await["depth"]["in_flight"] == 1
    })
    .await;
    assert_eq!(result().await["status"], "pending");
    send(&server.worker_pids().await, Signal::SIGKILL);

    // The next worker has the job's last receive: it stores a provisional failure before it begins, and is killed then.
    let killed = async {
        while result().await["status"] != "failed" {
            tokio::task::yield_now().await;
        }
        send(&server.worker_pids().await, Signal::SIGKILL);
    };
    tokio::time::timeout(TIMEOUT, killed).await.expect("the last receive leaves a failure behind");

    wait_until("the job has left the queue", TIMEOUT, async || {
        let depth = &server.fleet().await["depth"];
        depth["visible"] == 0 && depth["in_flight"] == 0
    })
    .await;
    let end = result().await;
    assert_eq!(end["status"], "failed");
    assert!(end["problem"]["detail"].as_str().expect("a reason").contains("workers died"), "{end}");

    server.kill9();
    let queues = Broker::open(server.data_dir()).expect("the journal of the server that was killed");
    let spec = QueueSpec {
        name: "rollcall-dead.fifo".into(),
        fifo: true,
        visibility: Duration::from_secs(30),
        max_receives: u32::MAX,
        dead_letter: None,
        durable: true,
    };
    let dead = queues.create(spec).await.expect("the dead-letter queue");
    assert_eq!(dead.receive(10, Duration::ZERO).await.expect("received").len(), 1, "the job is a dead letter");
}

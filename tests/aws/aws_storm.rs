//! Uploads from end to end, while a sixth of all calls to AWS fails in every way that calls can fail, and others are
//! late.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::support::fleet_watch::FleetWatch;
use crate::support::{
    aws_cluster::{Cluster, Node},
    wire,
};
use futures_util::{StreamExt as _, stream};
use rollcall_testing::uploads::{KNOWN, MACRON, file, photo, status_and_text};
use rollcall_testing::wait_until;
use rollcall_testing::{Emulator, free_port};
use serde_json::{Value, json};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(240);
const UPLOADS: usize = 60;
const CONCURRENCY: usize = 20;
const CAP: usize = 3;

/// The share of all calls that fails at least.
const FAILED: f64 = 1.0 / 6.0;
/// The probability of each of the four ways to fail. On average 22 % of all calls fail: of a thousand, less than a
/// sixth do in one run of thirty thousand.
const EACH: f64 = 0.06;

/// Returns rules by which calls are throttled, fail, are cut off, are applied without a response, or are late. Rules
/// are tried in order, each for its share of the calls that are left.
fn storm(service: &str, throttled: &str, status: u16) -> Vec<Value> {
    vec![
        json!({ "service": service, "probability": EACH, "error": { "code": throttled, "status": status } }),
        json!({ "service": service, "probability": EACH, "error": { "code": "InternalError", "status": 500 } }),
        json!({ "service": service, "probability": EACH, "reset": true }),
        json!({ "service": service, "probability": EACH, "response": { "abort_frac": 0.0 } }),
        json!({ "service": service, "probability": 0.1, "latency": { "min": 100, "max": 1000 } }),
    ]
}

/// Returns the rate limit that AWS publishes: the burst, and calls per second.
fn allowed(action: &str) -> (f64, f64) {
    match action {
        "RunInstances" | "StartInstances" => (5.0, 2.0),
        "TerminateInstances" => (100.0, 5.0),
        _ if action.starts_with("Describe") => (100.0, 20.0),
        _ => (50.0, 5.0),
    }
}

/// Checks that token buckets with these limits would have admitted every call.
fn within_rates(calls: &[(Instant, String)]) {
    let mut buckets: BTreeMap<&str, (f64, Instant)> = BTreeMap::new();
    for (at, action) in calls {
        let (burst, rate) = allowed(action);
        let (tokens, last) = buckets.get(action.as_str()).copied().unwrap_or((burst, *at));
        let tokens = (tokens + rate * at.duration_since(last).as_secs_f64()).min(burst) - 1.0;
        assert!(tokens >= 0.0, "{action} would be throttled by AWS itself");
        buckets.insert(action, (tokens, *at));
    }
}

/// Uploads a photo as a careful client does: repeats the request with the same key while the server is busy.
async fn upload(node: &Node, n: usize, photo: &[u8]) {
    let (client, key) = (reqwest::Client::new(), format!("upload-{n}"));
    let began = Instant::now();
    loop {
        let form = reqwest::multipart::Form::new().part("myfile", file(&format!("test_{n}.jpg"), photo));
        let response = client.post(node.url("/")).header("Idempotency-Key", &key).multipart(form).send().await;
        let (status, text) = status_and_text(response.expect("a response")).await;
        if status == 200 {
            assert_eq!(text, "Emmanuel_Macron", "upload {n}");
            return;
        }
        assert_eq!(status, 503, "upload {n}: {text}");
        assert!(began.elapsed() < TIMEOUT, "upload {n} is not accepted: {text}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_upload_succeeds_within_the_cap_and_the_rate_limits() {
    let (ministack, port) = (Emulator::ministack().await, free_port());
    let wires = [wire::faults(&ministack.url).await, wire::faults(&format!("http://127.0.0.1:{port}")).await];
    let cap = CAP.to_string();
    let settings = [
        ("ROLLCALL__FLEET__MAX_INSTANCES", cap.as_str()),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "5s"),
        ("ROLLCALL__QUEUE__VISIBILITY", "5s"),
        ("ROLLCALL__QUEUE__MAX_RECEIVES", "100"),
        ("ROLLCALL__LOG__LEVEL", "error"),
    ];
    let cluster = Cluster::start_behind(ministack, port, [&wires[0].url, &wires[1].url], &settings).await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;

    let watch = FleetWatch::start(&cluster).await;
    let baseline = wire::tally(&wires).await;
    let mut rest = storm("sqs", "RequestThrottled", 400);
    rest.extend(storm("s3", "SlowDown", 503));
    wire::rules(&wires[0], rest.into()).await;
    let mut ec2 = vec![json!({
        "service": "ec2", "operation": "RunInstances", "probability": 0.4,
        "error": { "code": "InsufficientInstanceCapacity", "status": 500 },
    })];
    ec2.extend(storm("ec2", "RequestLimitExceeded", 503));
    wire::rules(&wires[1], ec2.into()).await;

    let photo = photo(MACRON);
    let began = Instant::now();
    stream::iter(0..UPLOADS).for_each_concurrent(CONCURRENCY, async |n| upload(&node, n, &photo).await).await;
    let took = began.elapsed();
    wait_until("every instance is terminated", TIMEOUT, async || {
        cluster.count(&["pending", "running", "stopping", "stopped"]).await == 0
    })
    .await;
    let (most, _) = watch.end().await;
    let storm = wire::tally(&wires).await.since(baseline);
    let fired = [wire::times_fired(&wires[0]).await, wire::times_fired(&wires[1]).await];
    let calls = cluster.ec2_calls.calls();
    println!(
        "{UPLOADS} uploads completed in {took:.0?}; {storm:?}, {:.2} of all; at most {most} instances",
        storm.share()
    );
    assert!(storm.share() >= FAILED, "{storm:?}");
    assert!(fired[0] > 50 && fired[1] > 5, "calls to SQS and S3, and to EC2, were disturbed: {fired:?}");
    assert!((1..=CAP).contains(&most), "{most} instances");
    within_rates(&calls);
    for wire in &wires {
        wire::rules(wire, json!([])).await;
    }
    node.end();
}

//! What a thousand images cost in calls: SQS's are shared by many images, and EC2's do not depend on the uploads.
#![cfg(feature = "aws")]

#[path = "support/aws_cluster.rs"]
mod aws_cluster;
#[path = "support/counting_proxy.rs"]
mod counting_proxy;
#[path = "support/emulators.rs"]
mod emulators;
#[path = "support/uploads.rs"]
mod uploads;
#[path = "support/wait.rs"]
mod wait;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aws_cluster::Cluster;
use futures_util::{StreamExt as _, stream};
use uploads::{faceless, form, said};
use wait::wait_until;

const IMAGES: usize = 1_000;
const CONCURRENCY: usize = 100;
const WORKERS: usize = 4;
/// Longest wait for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the cluster at rest is watched.
const REST: Duration = Duration::from_secs(60);
/// Calls that carry images and replies; the others are the controller's, at its own pace.
const CARRIERS: [&str; 4] =
    ["SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_images_take_at_most_two_calls_of_sqs_each() {
    // A model that is fast on any machine stands for the cores that a test machine lacks.
    let cluster = Cluster::start(&[
        ("ROLLCALL__RECOGNITION__KIND", "classifier"),
        ("ROLLCALL__RECOGNITION__CLASSIFIER", "tests/data/colour_classifier.onnx"),
        ("ROLLCALL__RECOGNITION__LABELS", "tests/data/colour_labels.txt"),
        ("ROLLCALL__WORKER__THREADS", "2"),
        ("ROLLCALL__WORKER__IDLE_STOP", "60s"),
        ("ROLLCALL__FLEET__POLICY", "report"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", &WORKERS.to_string()),
    ])
    .await;
    let node = cluster.node("serve").await;
    let client = reqwest::Client::new();
    let (url, image) = (node.url("/"), faceless());
    let upload = async |n: usize| {
        let answer = client.post(&url).multipart(form(&[(&format!("{n}.png"), &image)])).send().await;
        assert_eq!(said(answer.expect("an answer")).await.0, 200, "image {n}");
    };
    // All workers are there, and have learned how long an image takes.
    stream::iter(0..CONCURRENCY).for_each_concurrent(CONCURRENCY, &upload).await;
    wait_until("every worker is ready", PATIENCE, async || {
        let fleet = reqwest::get(node.url("/v1/fleet")).await.expect("an answer");
        fleet.json::<serde_json::Value>().await.expect("JSON")["counts"]["running"] == WORKERS
    })
    .await;
    let counts = || [cluster.node_calls.counts(), cluster.worker_calls.counts()];
    let (before, described) = (counts(), describes(&cluster).await);
    let began = Instant::now();
    stream::iter(1..=IMAGES).for_each_concurrent(CONCURRENCY, &upload).await;
    println!("{IMAGES} images in {:.1} s", began.elapsed().as_secs_f64());
    let after = counts();
    let of = |counts: &[BTreeMap<String, usize>; 2], action: &str| -> usize {
        counts.iter().map(|counts| counts.get(action).unwrap_or(&0)).sum()
    };
    let calls = |action: &str| of(&after, action) - of(&before, action);
    let carried: usize = CARRIERS.iter().map(|action| calls(action)).sum();
    for (side, at) in [("nodes", 0), ("workers", 1)] {
        let one = |counts: &[BTreeMap<String, usize>; 2]| [counts[at].clone(), BTreeMap::new()];
        println!("{side}: {:?}", by_kind(&one(&before), &one(&after)));
    }
    let each: Vec<String> = CARRIERS.iter().map(|action| format!("{action} {}", calls(action))).collect();
    println!("{} calls of SQS for {IMAGES} images: {}", carried, each.join(", "));
    println!("all calls for {IMAGES} images: {:?}", by_kind(&before, &after));
    assert!(carried <= 2 * IMAGES, "{carried} calls for {IMAGES} images: {}", each.join(", "));
    // Some a second, by the clock: far fewer than images.
    assert!(describes(&cluster).await - described < IMAGES as u64 / 4);
}

/// Calls between two counts, those of S3 without their bucket.
fn by_kind(before: &[BTreeMap<String, usize>; 2], after: &[BTreeMap<String, usize>; 2]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for (before, after) in before.iter().zip(after) {
        for (call, n) in after {
            let kind = call.split(' ').next().unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default() += n - before.get(call).unwrap_or(&0);
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_at_rest_calls_at_its_own_pace() {
    // The pace of AWS, not that of tests.
    let cluster =
        Cluster::start(&[("ROLLCALL__FLEET__POLL_EVERY", "auto"), ("ROLLCALL__FLEET__DESCRIBE_EVERY", "auto")]).await;
    let node = cluster.node("serve").await;
    let counts = || [cluster.node_calls.counts(), cluster.worker_calls.counts()];
    tokio::time::sleep(Duration::from_secs(5)).await; // what a start costs is no rest
    let (before, described, began) = (counts(), describes(&cluster).await, Instant::now());
    tokio::time::sleep(REST).await;
    let (after, took) = (counts(), began.elapsed().as_secs_f64());
    let mut calls = by_kind(&before, &after);
    calls.insert("DescribeInstances".into(), (describes(&cluster).await - described) as usize);
    println!("at rest for {took:.0} s: {calls:?}");
    // What each may be called in an hour; one more for where the time began.
    for (call, n) in &calls {
        let allowed = match call.as_str() {
            "GetQueueAttributes" => 900.0, // the depth, each 5 s and no oftener than once in four
            "ReceiveMessage" => 200.0,     // long polls
            "DescribeInstances" => 260.0,
            "PutObject" => 420.0, // leases
            "ListObjectsV2" => 24.0,
            "GetObject" => 24.0,
            _ => 0.0,
        };
        assert!(*n as f64 <= 1.0 + allowed * took / 3600.0, "{call}: {n} in {took:.0} s at rest, of {calls:?}");
    }
    node.end();
}

async fn describes(cluster: &Cluster) -> u64 {
    cluster.ec2.ask("/calls").await["DescribeInstances"].as_u64().unwrap_or(0)
}

//! API calls per image: many images share a call to SQS, and the number of calls to EC2 does not depend on the uploads.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::support::aws_cluster::{Cluster, Node};
use futures_util::{StreamExt as _, future::join_all, stream};
use rollcall_testing::uploads::{faceless, form, post, said};
use rollcall_testing::wait_until;
use serde_json::Value;

const IMAGES: usize = 1_000;
const CONCURRENCY: usize = 100;
/// Like two instances of the default type.
const WORKERS: usize = 2;
const THREADS: usize = 2;
const DESCRIBE_EVERY: Duration = Duration::from_millis(300);
/// Longest wait for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the cluster at rest is watched.
const REST: Duration = Duration::from_secs(60);
/// Calls that carry images and replies; the others are the controller's, at fixed intervals.
const CARRIERS: [&str; 4] =
    ["SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_images_take_at_most_two_calls_of_sqs_each() {
    let image = faceless(320, 240);
    let (cluster, node) = busy_cluster(&image).await;
    let client = reqwest::Client::new();
    let url = node.url("/");
    let upload = async |n: usize| {
        let answer = client.post(&url).multipart(form(&[(&format!("{n}.png"), &image)])).send().await;
        assert_eq!(said(answer.expect("an answer")).await.0, 200, "image {n}");
    };
    stream::iter(0..CONCURRENCY).for_each_concurrent(CONCURRENCY, &upload).await; // a warm-up
    let counts = || [cluster.node_calls.counts(), cluster.worker_calls.counts()];
    let (before, described) = (counts(), describes(&cluster).await);
    let began = Instant::now();
    stream::iter(1..=IMAGES).for_each_concurrent(CONCURRENCY, &upload).await;
    let took = began.elapsed();
    let after = counts();
    let of = |counts: &[BTreeMap<String, usize>; 2], action: &str| -> usize {
        counts.iter().map(|counts| counts.get(action).unwrap_or(&0)).sum()
    };
    let calls = |action: &str| of(&after, action) - of(&before, action);
    let carried: usize = CARRIERS.iter().map(|action| calls(action)).sum();
    let each: Vec<String> = CARRIERS.iter().map(|action| format!("{action} {}", calls(action))).collect();
    println!("{carried} calls of SQS for {IMAGES} images in {took:.1?}: {}", each.join(", "));
    println!("all calls for {IMAGES} images: {:?}", by_kind(&before, &after));
    assert!(carried <= 2 * IMAGES, "{carried} calls for {IMAGES} images: {}", each.join(", "));
    let described = describes(&cluster).await - described;
    let by_the_clock = took.as_secs_f64() / DESCRIBE_EVERY.as_secs_f64();
    println!("{described} descriptions in that time; {by_the_clock:.0} by the clock");
    assert!(described as f64 <= by_the_clock + 2.0, "{described} descriptions in {took:?}");
}

/// Starts a cluster whose workers are all ready and have processed such an image. Returns it with its node.
async fn busy_cluster(image: &[u8]) -> (Cluster, Node) {
    let cluster = Cluster::start(&[
        ("ROLLCALL__WORKER__THREADS", &THREADS.to_string()),
        ("ROLLCALL__WORKER__IDLE_STOP", "60s"),
        ("ROLLCALL__FLEET__POLICY", "one-per-job"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", &WORKERS.to_string()),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", &format!("{}ms", DESCRIBE_EVERY.as_millis())),
    ])
    .await;
    let node = cluster.node("serve").await;
    let uploads = (0..WORKERS * THREADS).map(|n| {
        let url = node.url("/");
        async move { post(&url, form(&[(&format!("{n}.png"), image)])).await.status() }
    });
    assert!(join_all(uploads).await.iter().all(|status| *status == 200));
    wait_until("every worker is ready", PATIENCE, async || {
        let fleet = reqwest::get(node.url("/v1/fleet")).await.expect("an answer");
        fleet.json::<Value>().await.expect("JSON")["counts"]["running"] == WORKERS
    })
    .await;
    (cluster, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_holds_a_job_that_an_idle_one_could_do() {
    // Each job takes several times as long as the emulator sleeps in a waiting receive (0.1 s).
    let image = faceless(6_000, 6_000);
    let (_cluster, node) = busy_cluster(&image).await;
    for round in 0..4 {
        // As many uploads as there are threads.
        let uploads = (0..WORKERS * THREADS).map(|n| {
            let (url, image) = (node.url("/v1/recognitions"), &image);
            async move {
                let answer = post(&url, form(&[(&format!("{round}-{n}.png"), image)])).await;
                let seen: Value = answer.json().await.expect("JSON");
                seen["worker"].as_str().unwrap_or_else(|| panic!("{seen}")).to_owned()
            }
        });
        let mut by_worker = BTreeMap::<String, usize>::new();
        for worker in join_all(uploads).await {
            *by_worker.entry(worker).or_default() += 1;
        }
        assert!(by_worker.len() == WORKERS && by_worker.values().all(|jobs| *jobs == THREADS), "{by_worker:?}");
    }
}

/// Returns the number of calls between two counts by action, those to S3 without their bucket.
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
    // The intervals of AWS, not the shorter ones of tests.
    let cluster =
        Cluster::start(&[("ROLLCALL__FLEET__POLL_EVERY", "auto"), ("ROLLCALL__FLEET__DESCRIBE_EVERY", "auto")]).await;
    let node = cluster.node("serve").await;
    let counts = || [cluster.node_calls.counts(), cluster.worker_calls.counts()];
    tokio::time::sleep(Duration::from_secs(5)).await; // the calls at the start do not count
    let (before, described, began) = (counts(), describes(&cluster).await, Instant::now());
    tokio::time::sleep(REST).await;
    let (after, took) = (counts(), began.elapsed().as_secs_f64());
    let mut calls = by_kind(&before, &after);
    calls.insert("DescribeInstances".into(), (describes(&cluster).await - described) as usize);
    println!("at rest for {took:.0} s: {calls:?}");
    // The number of calls allowed per hour. One more is allowed, because the measurement begins at any point of an
    // interval.
    for (call, n) in &calls {
        let allowed = match call.as_str() {
            "GetQueueAttributes" => 900.0, // the depth: every 5 s, and at most every 4 s
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

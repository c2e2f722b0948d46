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

use std::collections::BTreeMap;

use aws_cluster::Cluster;
use futures_util::{StreamExt as _, stream};
use uploads::{faceless, form, said};

const IMAGES: usize = 1_000;
const CONCURRENCY: usize = 100;
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
        ("ROLLCALL__WORKER__THREADS", "8"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
    ])
    .await;
    let node = cluster.node("serve").await;
    let client = reqwest::Client::new();
    let (url, image) = (node.url("/"), faceless());
    let upload = async |n: usize| {
        let answer = client.post(&url).multipart(form(&[(&format!("{n}.png"), &image)])).send().await;
        assert_eq!(said(answer.expect("an answer")).await.0, 200, "image {n}");
    };
    upload(0).await; // the worker is there
    let counts = || [cluster.node_calls.counts(), cluster.worker_calls.counts()];
    let (before, described) = (counts(), describes(&cluster).await);
    stream::iter(1..=IMAGES).for_each_concurrent(CONCURRENCY, &upload).await;
    let after = counts();
    let of = |counts: &[BTreeMap<String, usize>; 2], action: &str| -> usize {
        counts.iter().map(|counts| counts.get(action).unwrap_or(&0)).sum()
    };
    let calls = |action: &str| of(&after, action) - of(&before, action);
    let carried: usize = CARRIERS.iter().map(|action| calls(action)).sum();
    let each: Vec<String> = CARRIERS.iter().map(|action| format!("{action} {}", calls(action))).collect();
    println!("{} calls of SQS for {IMAGES} images: {}", carried, each.join(", "));
    assert!(carried <= 2 * IMAGES, "{carried} calls for {IMAGES} images: {}", each.join(", "));
    // Some a second, by the clock: far fewer than images.
    assert!(describes(&cluster).await - described < IMAGES as u64 / 4);
}

async fn describes(cluster: &Cluster) -> u64 {
    cluster.ec2.ask("/calls").await["DescribeInstances"].as_u64().unwrap_or(0)
}

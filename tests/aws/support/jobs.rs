//! Jobs that nobody waits for, and what a test asks of the cluster that does them.

use std::time::Duration;

use futures_util::future::join_all;
use rollcall_testing::{
    uploads::{faceless, form},
    wait_until,
};
use serde_json::Value;

use super::{
    aws_cluster::{Cluster, Node},
    bill::Bill,
};

/// Longest wait for anything here, on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(150);

/// Settings of a classifier, whose jobs take next to no time, and of one instance per job.
pub const QUICK_JOBS: [(&str, &str); 4] = [
    ("ROLLCALL__RECOGNITION__KIND", "classifier"),
    ("ROLLCALL__RECOGNITION__CLASSIFIER", "tests/models/colour_classifier.onnx"),
    ("ROLLCALL__RECOGNITION__LABELS", "tests/models/colour_labels.txt"),
    ("ROLLCALL__FLEET__POLICY", "one-per-job"),
];

/// Uploads that many images of that width and height at once, and returns the paths of their results.
pub async fn submit(node: &Node, count: usize, size: u32) -> Vec<String> {
    let image = faceless(size, size);
    let client = reqwest::Client::new();
    let uploads = (0..count).map(|n| {
        let (client, url, form) = (&client, node.url("/v1/recognitions"), form(&[(&format!("{n}.png"), &image)]));
        async move {
            let response = client.post(url).header("Prefer", "respond-async").multipart(form).send().await;
            let response = response.expect("a response");
            assert_eq!(response.status(), 202, "upload {n}");
            response.headers()["location"].to_str().expect("text").to_owned()
        }
    });
    join_all(uploads).await
}

/// Waits until every job is done.
pub async fn all_done(node: &Node, results: &[String]) {
    for path in results {
        wait_until("every job is done", TIMEOUT, async || {
            let result: Value = serde_json::from_str(&get(node, path).await).expect("JSON");
            assert_ne!(result["status"], "failed", "{result}");
            result["status"] == "done"
        })
        .await;
    }
}

/// Submits jobs until that many instances run and at least one of them works. Returns the paths of the results.
pub async fn submit_until_all_work(node: &Node, instances: usize, count: usize, size: u32) -> Vec<String> {
    let mut results = Vec::new();
    wait_until("every instance works", TIMEOUT, async || {
        let view = view(node).await;
        if view["depth"]["in_flight"].as_u64() == Some(0) || results.is_empty() {
            results.extend(submit(node, count, size).await);
            return false;
        }
        view["counts"]["running"] == instances
    })
    .await;
    results
}

/// Waits until no instance is left, not even a stopped one.
pub async fn all_terminated(cluster: &Cluster) {
    wait_until("every instance is terminated", TIMEOUT, async || {
        cluster.instances().await.iter().all(|(_, state)| state == "terminated")
    })
    .await;
}

/// Lets a cluster do that many jobs and come to rest, and returns their bill.
pub async fn bill_of(cluster: &Cluster, node: &Node, count: usize, size: u32) -> Bill {
    let before = cluster.bill().await;
    all_done(node, &submit(node, count, size).await).await;
    all_terminated(cluster).await;
    cluster.bill().await - before
}

/// Returns the body of a successful response.
pub async fn get(node: &Node, path: &str) -> String {
    let response = reqwest::get(node.url(path)).await.expect("a response");
    assert_eq!(response.status(), 200, "{path}");
    response.text().await.expect("text")
}

pub async fn view(node: &Node) -> Value {
    serde_json::from_str(&get(node, "/v1/fleet").await).expect("JSON")
}

/// Returns how often EC2 was called to launch or to start instances.
pub async fn boot_calls(cluster: &Cluster) -> u64 {
    let calls = cluster.ec2.get_control("/calls").await;
    ["RunInstances", "StartInstances"].iter().map(|action| calls[action].as_u64().unwrap_or(0)).sum()
}

/// Returns the finding of `rollcall doctor` about the fleet.
pub fn doctor(cluster: &Cluster) -> Value {
    let output = cluster.command(&["doctor", "--json"]).output().expect("the program starts");
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    findings.into_iter().find(|finding| finding["what"] == "fleet").expect("a finding about the fleet")
}

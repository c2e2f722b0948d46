//! Boots that fail do not go on for ever: while every worker fails before it is ready, few instances are booted, and
//! `/v1/fleet`, `/readyz`, the metrics and `rollcall doctor` show it. Once boots succeed, every job is done.

use std::{path::Path, time::Duration};

use rollcall_testing::{
    uploads::{self, KNOWN, MACRON, form, photo, post},
    wait_until,
};
use serde_json::Value;

use crate::support::aws_cluster::{Cluster, Node};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(150);
/// The time in which boots are counted, in which every instance would fail several times. Shorter than the first pause.
const OBSERVED: Duration = Duration::from_secs(20);
const DETECTOR: &str = ".assets/models/face_detection_yunet_2023mar.onnx";
const UPLOADS: usize = 6;

async fn get(node: &Node, path: &str) -> String {
    let response = reqwest::get(node.url(path)).await.expect("a response");
    assert_eq!(response.status(), 200, "{path}");
    response.text().await.expect("text")
}

async fn degraded(node: &Node) -> Value {
    let view: Value = serde_json::from_str(&get(node, "/v1/fleet").await).expect("JSON");
    view["degraded"].clone()
}

/// Returns how many boots there have been: instances that were launched, and calls that started one.
async fn boots(cluster: &Cluster) -> usize {
    let starts = cluster.ec2.get_control("/calls").await["StartInstances"].as_u64().unwrap_or(0);
    cluster.instances().await.len() + starts as usize
}

/// Returns the finding of `rollcall doctor` about the fleet.
fn doctor(cluster: &Cluster) -> Value {
    let output = cluster.command(&["doctor", "--json"]).output().expect("the program starts");
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    findings.into_iter().find(|finding| finding["what"] == "fleet").expect("a finding about the fleet")
}

#[tokio::test(flavor = "multi_thread")]
async fn boots_that_fail_are_few_and_shown_and_all_jobs_are_done_once_they_succeed() {
    // Workers fail while this file, a link to the model, is missing.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("detector.onnx");
    let repair = || {
        let model = Path::new(DETECTOR).canonicalize().expect("the models are there: run `make setup`");
        std::os::unix::fs::symlink(model, &link).expect("a link");
    };
    let cluster = Cluster::start(&[
        ("ROLLCALL__RECOGNITION__DETECTOR", link.to_str().expect("UTF-8")),
        ("ROLLCALL__FLEET__POLICY", "one-per-job"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "5"),
        ("ROLLCALL__FLEET__KEEP_STOPPED", "5"),
    ])
    .await;
    repair();
    cluster.enroll(KNOWN);
    std::fs::remove_file(&link).expect("removed");
    let node = cluster.node("serve").await;
    assert_eq!(degraded(&node).await, Value::Null);

    let photo = photo(MACRON);
    let clients: Vec<_> = (0..UPLOADS)
        .map(|n| {
            let (url, form) = (node.url("/v1/recognitions"), form(&[(&format!("{n}.jpg"), &photo)]));
            tokio::spawn(async move {
                let body = reqwest::Client::new().post(url).header("Prefer", "respond-async").multipart(form);
                let response = body.send().await.expect("a response");
                assert_eq!(response.status(), 202, "uploads are accepted");
                response.headers()["location"].to_str().expect("text").to_owned()
            })
        })
        .collect();
    let mut results = Vec::new();
    for client in clients {
        results.push(client.await.expect("accepted"));
    }

    wait_until("the fleet is degraded", TIMEOUT, async || !degraded(&node).await.is_null()).await;
    let before = boots(&cluster).await;
    assert!(before <= 9, "{before} boots until five in a row have failed");
    let state = degraded(&node).await;
    assert!(state["failed_boots"].as_u64() >= Some(5), "{state}");
    let reason = state["reason"].as_str().expect("a reason");
    assert!(reason.contains("ended before it was ready") && reason.contains("Instance initiated shutdown"), "{reason}");
    assert!(get(&node, "/readyz").await.starts_with("ready; degraded: "));
    let decisions = get(&node, "/v1/fleet/decisions").await;
    assert!(decisions.contains("before its worker was ready") && !decisions.contains("idle_stop"), "{decisions}");
    assert!(get(&node, "/metrics").await.contains("rollcall_fleet_degraded 1"));
    wait_until("doctor reports it", TIMEOUT, async || doctor(&cluster)["ok"] == false).await;
    tokio::time::sleep(OBSERVED).await;
    let failing = cluster.bill().await;
    let during = boots(&cluster).await - before;
    assert!(during <= 1, "{during} boots in {OBSERVED:?}");
    // Each boot runs for less than the minute that is billed for it.
    assert!(failing.starts <= before + during, "{failing}");
    assert_eq!(failing.instance_seconds, 60.0 * failing.starts as f64, "{failing}");

    repair();
    for result in &results {
        wait_until("every job is done", TIMEOUT, async || {
            let result: Value = serde_json::from_str(&get(&node, result).await).expect("JSON");
            result["label"] == "Emmanuel_Macron"
        })
        .await;
    }
    println!("{} failed boots: {failing}\nand after the repair: {}", failing.starts, cluster.bill().await);
    // Descriptions may lag behind the workers, so the controller believes them a moment after the jobs are done.
    wait_until("the fleet is healthy", TIMEOUT, async || degraded(&node).await.is_null()).await;
    assert!(get(&node, "/readyz").await.starts_with("ready\n"));
    let response = post(&node.url("/"), self::form(&[("last.jpg", &photo)])).await;
    assert_eq!(uploads::status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()));
    wait_until("doctor reports it", TIMEOUT, async || doctor(&cluster)["ok"] == true).await;
}

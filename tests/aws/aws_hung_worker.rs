//! A worker that hangs is noticed by its missing heartbeats, and its instance is replaced. One that works is not, even if
//! nobody could receive heartbeats for a while.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;
use serde_json::json;

use crate::support::aws_cluster::{Cluster, Node};

const TIMEOUT: Duration = Duration::from_secs(120);
/// Long enough for a worker that waits for a busy machine.
const HEARTBEAT: (&str, &str) = ("ROLLCALL__AWS__HEARTBEAT", "2s");

async fn upload(node: &Node) -> u16 {
    post(&node.url("/"), form(&[("x.jpg", &photo(MACRON))])).await.status().as_u16()
}

/// Returns the ids of the instances, each with its worker's process, in the state.
async fn in_state(cluster: &Cluster, state: &str) -> Vec<(String, i32)> {
    let instances = cluster.ec2.get_control("/instances").await;
    let instances = instances.as_array().expect("a list").iter().filter(|instance| instance["state"] == state);
    instances
        .map(|i| (i["id"].as_str().expect("an id").to_owned(), i["pid"].as_i64().unwrap_or_default() as i32))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_worker_hangs_is_replaced_and_its_jobs_are_done() {
    let cluster = Cluster::start(&[
        HEARTBEAT,
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__QUEUE__VISIBILITY", "5s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "1h"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    assert_eq!(upload(&node).await, 200);
    let running = in_state(&cluster, "running").await;
    let [(hung, worker)] = &running[..] else { panic!("{running:?}") };
    let usual = cluster.bill().await;
    kill(Pid::from_raw(*worker), Signal::SIGSTOP).expect("it runs");
    // The only instance that may run hangs, with the job that it receives.
    assert_eq!(upload(&node).await, 200);
    wait_until("the instance is terminated", TIMEOUT, async || {
        in_state(&cluster, "terminated").await.iter().any(|(id, _)| id == hung)
    })
    .await;
    let why = reqwest::get(node.url("/v1/fleet/decisions")).await.expect("a response").text().await.expect("text");
    assert!(why.contains("the worker does not respond"), "{why}");
    let (bill, ledger) = (cluster.bill().await, cluster.ledger().await);
    println!("until a worker hangs: {usual}\nwith its replacement: {bill}");
    // It costs one more start, and is not paid for any longer.
    let running = ledger.instances.iter().filter(|instance| instance.state() != "terminated").count();
    assert_eq!((bill.starts, running), (usual.starts + 1, 1), "{bill}");
    node.end();
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_stay_while_heartbeats_cannot_be_received_and_after_a_new_controller_has_begun() {
    let cluster =
        Cluster::start(&[HEARTBEAT, ("ROLLCALL__FLEET__MAX_INSTANCES", "1"), ("ROLLCALL__WORKER__IDLE_STOP", "1h")])
            .await;
    cluster.enroll(KNOWN);
    let wire = crate::support::wire::faults(&cluster.node_calls.url).await;
    let node = cluster.node_with("serve", &[("AWS_ENDPOINT_URL_SQS", &wire.url)]).await;
    assert_eq!(upload(&node).await, 200);
    let before = in_state(&cluster, "running").await;
    // Only the node's calls fail: heartbeats go on.
    let error = json!({ "code": "InternalError", "status": 500 });
    let rules = json!([{ "service": "sqs", "operation": "ReceiveMessage", "probability": 1.0, "error": error }]);
    crate::support::wire::rules(&wire, rules).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    crate::support::wire::rules(&wire, json!([])).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(in_state(&cluster, "running").await, before);
    node.end();
    // Nobody receives for longer than four heartbeats.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let node = cluster.node("serve").await;
    assert_eq!(upload(&node).await, 200);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(in_state(&cluster, "running").await, before, "it is the same worker");
    node.end();
}

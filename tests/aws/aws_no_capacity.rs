//! A region without capacity: nothing is launched or started, in no type and no subnet. `/v1/fleet`, `/readyz`, the metrics
//! and `rollcall doctor` say so, few calls are made, and nothing is billed. When capacity is back, every job is done.

use std::time::Duration;

use rollcall_testing::wait_until;
use serde_json::{Value, json};

use crate::support::{
    aws_cluster::Cluster,
    jobs::{QUICK_JOBS, TIMEOUT, all_done, all_terminated, bill_of, boot_calls, doctor, get, submit, view},
};

const JOBS: usize = 4;
/// The time in which calls are counted.
const OBSERVED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_region_without_capacity_is_shown_and_costs_nothing_and_jobs_are_done_when_there_is_some() {
    let settings = [
        ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.large,c6i.large"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1s"),
        // No instance stops between two jobs.
        ("ROLLCALL__WORKER__IDLE_STOP", "6s"),
    ];
    let cluster = Cluster::start(&[&QUICK_JOBS[..], &settings].concat()).await;
    let node = cluster.node_with("serve", &[("ROLLCALL__FLEET__KEEP_STOPPED", "1")]).await;
    // One instance stays stopped, and would be started.
    all_done(&node, &submit(&node, 1, 320).await).await;
    wait_until("an instance is stopped", TIMEOUT, async || cluster.count(&["stopped"]).await == 1).await;

    cluster.ec2.post_control("/supply", json!({ "capacity": false })).await;
    let (before, calls) = (cluster.bill().await, boot_calls(&cluster).await);
    let results = submit(&node, JOBS, 320).await;
    let mut degraded = Value::Null;
    wait_until("the fleet is degraded, and waits for the next attempt", TIMEOUT, async || {
        degraded = view(&node).await["degraded"].clone();
        degraded["next_attempt_ms"].is_u64()
    })
    .await;
    assert_eq!((&degraded["failed_boots"], degraded["refused"].as_u64() >= Some(5)), (&json!(0), true), "{degraded}");
    assert!(degraded["reason"].as_str().expect("text").contains("InsufficientInstanceCapacity"), "{degraded}");
    assert!(get(&node, "/readyz").await.starts_with("ready; degraded: "));
    assert!(get(&node, "/metrics").await.contains("rollcall_fleet_degraded 1"));
    assert!(get(&node, "/v1/fleet/decisions").await.contains("\"degraded\""));
    wait_until("doctor reports it", TIMEOUT, async || doctor(&cluster)["ok"] == false).await;
    // The two types once, and then one call with each attempt; the pauses double for launches and for starts.
    let until_shown = boot_calls(&cluster).await - calls;
    assert!(until_shown <= 2 * 8, "{until_shown} calls until it is shown");
    tokio::time::sleep(OBSERVED).await;
    let during = boot_calls(&cluster).await - calls - until_shown;
    assert!(during <= 4, "{during} calls in {OBSERVED:?}");
    let outage = cluster.bill().await - before;
    assert_eq!((outage.starts, outage.instance_seconds), (0, 0.0), "an outage costs nothing");

    cluster.ec2.post_control("/supply", json!({ "capacity": true })).await;
    all_done(&node, &results).await;
    wait_until("the fleet is healthy", TIMEOUT, async || view(&node).await["degraded"] == Value::Null).await;
    assert!(get(&node, "/readyz").await.starts_with("ready\n"));
    wait_until("doctor reports it", TIMEOUT, async || doctor(&cluster)["ok"] == true).await;
    node.end();
    let node = cluster.node("serve").await; // keeps no stopped instance
    all_terminated(&cluster).await;
    let bill = cluster.bill().await - before;
    let usual = bill_of(&cluster, &node, JOBS, 320).await;
    println!("with capacity: {usual}\nwithout for a while: {bill}");
    // The requests that the queue and the store cost meanwhile are of no weight.
    assert!(bill.total() <= 1.5 * usual.total(), "{bill} instead of {usual}");
    node.end();
}

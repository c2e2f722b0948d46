//! A zone that goes away: its instances end at once, and nothing can be launched there, or what is launched ends before it
//! runs. The fleet goes on in the other zones.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    account::Account,
    aws_cluster::{Cluster, Node},
    jobs::{QUICK_JOBS, all_done, all_terminated, bill_of, boot_calls, submit, submit_until_all_work, view},
};

const JOBS: usize = 12;
const CAP: usize = 3;
/// Width and height of images whose jobs take so long that some are in flight when the zone goes.
const SIZE: u32 = 3_000;

/// Returns the subnets of the emulated account in three zones, as zone and id.
async fn subnets(cluster: &Cluster) -> Vec<(String, String)> {
    let ec2 = Account::ec2_of(&cluster.ec2).await;
    let subnets = ec2.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let by_zone: BTreeMap<String, String> =
        subnets.into_iter().map(|s| (s.availability_zone.expect("a zone"), s.subnet_id.expect("an id"))).collect();
    by_zone.into_iter().take(3).collect()
}

async fn start() -> (Cluster, Node, Vec<String>) {
    let settings = [
        ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.large"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", &CAP.to_string()),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1s"),
        // As by default, workers wait for longer than the jobs of those that died are invisible.
        ("ROLLCALL__QUEUE__VISIBILITY", "3s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "6s"),
    ];
    let cluster = Cluster::start(&[&QUICK_JOBS[..], &settings].concat()).await;
    let (zones, ids): (Vec<String>, Vec<String>) = subnets(&cluster).await.into_iter().unzip();
    let node = cluster.node_with("serve", &[("ROLLCALL__AWS__SUBNETS", &ids.join(","))]).await;
    (cluster, node, zones)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_done_in_other_zones_when_one_has_gone_and_each_instance_is_paid_twice_at_most() {
    let (cluster, node, zones) = start().await;
    let (before, calls) = (cluster.bill().await, boot_calls(&cluster).await);
    let mut results = submit_until_all_work(&node, CAP, JOBS, SIZE).await;
    cluster.ec2.post_control("/supply", json!({ "lost": [&zones[0]] })).await;
    results.extend(submit(&node, JOBS, SIZE).await);
    all_done(&node, &results).await;
    all_terminated(&cluster).await;
    let (bill, launches) = (cluster.bill().await - before, boot_calls(&cluster).await - calls);
    let ledger = cluster.ledger().await;
    // The same jobs while all zones are there.
    cluster.ec2.post_control("/supply", json!({ "lost": [] })).await;
    let usual = bill_of(&cluster, &node, results.len(), SIZE).await;
    println!("{} jobs in all zones: {usual}\na zone goes away: {bill}; {launches} launches", results.len());

    assert!(ledger.instances.iter().any(|i| i.zone == zones[0] && i.ended_by_ec2), "it was in use");
    assert!(ledger.instances.iter().any(|i| i.zone == zones[1]), "{ledger:?}");
    // Each instance is replaced once.
    assert!(bill.starts <= 2 * CAP, "{bill}");
    assert!(bill.total() <= 2.0 * usual.total(), "{bill} instead of {usual}");
    // A call for each instance and for each replacement, and one in vain, since the zone is remembered.
    assert!(launches <= 2 * CAP as u64 + 1, "{launches} launches");
    node.end();
}

/// Loses the zone of the preferred subnet before anything runs there, so that launches come to `how`. Each instance may be
/// launched in vain `in_vain` times, which costs nothing but disks for a minute.
async fn launches_elsewhere(how: &str, in_vain: u64) {
    let (cluster, node, zones) = start().await;
    let usual = bill_of(&cluster, &node, JOBS, SIZE).await;
    let (before, calls) = (cluster.bill().await, boot_calls(&cluster).await);
    cluster.ec2.post_control("/supply", json!({ "lost": [&zones[0]], "how": how })).await;
    let results = submit(&node, JOBS, SIZE).await;
    all_done(&node, &results).await;
    all_terminated(&cluster).await;
    let (bill, launches) = (cluster.bill().await - before, boot_calls(&cluster).await - calls);
    println!("all zones: {usual}\nlaunches in one come to {how}: {bill}; {launches} launches");
    assert_eq!(view(&node).await["degraded"], Value::Null, "boots do not fail, and some launches are accepted");
    assert!(bill.starts <= CAP, "{bill}");
    assert!(bill.total() <= 1.5 * usual.total(), "{bill} instead of {usual}");
    assert!(launches <= (1 + in_vain) * CAP as u64, "{launches} launches");
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_whose_instances_end_before_they_run_is_avoided_and_costs_nothing() {
    launches_elsewhere("Server.InternalError", 1).await;
}

/// Such a launch may have been carried out, so it is made elsewhere only when EC2 has had the time to show it.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_whose_launches_fail_for_unknown_reasons_is_avoided_and_costs_nothing() {
    launches_elsewhere("Unavailable", 3).await;
}

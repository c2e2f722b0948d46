//! Every spot instance is interrupted at once, with a notice, and there are no others, or none can run: on-demand instances do
//! the jobs, and none waits for its visibility timeout.

use rollcall_testing::wait_until;
use serde_json::{Value, json};

use crate::support::{
    aws_cluster::Cluster,
    jobs::{QUICK_JOBS, TIMEOUT, all_done, all_terminated, bill_of, submit, submit_until_all_work, view},
};

const JOBS: usize = 12;
const CAP: usize = 3;
const SETTINGS: [(&str, &str); 4] = [
    ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.large"),
    ("ROLLCALL__AWS__SPOT", "true"),
    ("ROLLCALL__FLEET__MAX_INSTANCES", "3"),
    ("ROLLCALL__FLEET__SWEEP_EVERY", "1s"),
];
/// Width and height of images whose jobs take so long that some are in flight when the notice comes.
const SIZE: u32 = 3_000;

/// The policy of a customer's key names the workers' role and forgets `AWSServiceRoleForEC2Spot`.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_done_on_demand_when_spot_instances_may_not_use_the_key_of_their_disks() {
    let cluster = Cluster::start(&[&QUICK_JOBS[..], &SETTINGS].concat()).await;
    cluster.ec2.post_control("/supply", json!({ "spot_key": false })).await;
    let node = cluster.node("serve").await;
    let results = submit(&node, JOBS, SIZE).await;
    all_done(&node, &results).await;
    all_terminated(&cluster).await;
    assert_eq!(view(&node).await["degraded"], Value::Null, "boots do not fail");
    let ledger = cluster.ledger().await;
    let (spot, on_demand): (Vec<_>, Vec<_>) = ledger.instances.iter().partition(|instance| instance.spot);
    println!("{} spot instances ended before they ran, {} on demand", spot.len(), on_demand.len());
    assert!((1..=CAP).contains(&spot.len()), "{} spot instances: they are tried once", spot.len());
    assert!((1..=CAP).contains(&on_demand.len()), "{} on demand", on_demand.len());
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_done_on_demand_when_every_spot_instance_is_interrupted_and_none_waits_to_become_visible() {
    let settings = [
        // A job that were left in flight would not be done in the time that this test has.
        ("ROLLCALL__QUEUE__VISIBILITY", "1h"),
        // No instance stops between two jobs.
        ("ROLLCALL__WORKER__IDLE_STOP", "6s"),
    ];
    let cluster = Cluster::start(&[&QUICK_JOBS[..], &SETTINGS, &settings].concat()).await;
    let node = cluster.node("serve").await;
    let mut results = submit_until_all_work(&node, CAP, JOBS, SIZE).await;
    cluster.ec2.post_control("/supply", json!({ "spot": false })).await;
    cluster.ec2.post_control("/interrupt", json!({ "seconds": 30 })).await;
    // There is work until the last of them has ended, and afterwards.
    wait_until("every spot instance has ended", TIMEOUT, async || {
        results.extend(submit(&node, 1, SIZE).await);
        let ledger = cluster.ledger().await;
        ledger.instances.iter().all(|i| !i.spot || i.state() == "terminated")
    })
    .await;
    results.extend(submit(&node, JOBS, SIZE).await);
    all_done(&node, &results).await;
    all_terminated(&cluster).await;
    let bill = cluster.bill().await;
    let ledger = cluster.ledger().await;
    // The same jobs, with instances that nobody interrupts.
    let usual = bill_of(&cluster, &node, results.len(), SIZE).await;
    println!("{} jobs: {usual}\nevery instance interrupted: {bill}", results.len());
    let (spot, on_demand): (Vec<_>, Vec<_>) = ledger.instances.iter().partition(|instance| instance.spot);
    assert_eq!(spot.len(), CAP);
    assert!((1..=CAP).contains(&on_demand.len()), "{} on demand", on_demand.len());
    assert!(spot.iter().all(|instance| !instance.ended_by_ec2), "the workers ended before EC2 did it");
    // Each instance is replaced once.
    assert!(bill.starts <= 2 * CAP, "{bill}");
    assert!(bill.total() <= 2.0 * usual.total(), "{bill} instead of {usual}");
    node.end();
}

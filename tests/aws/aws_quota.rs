//! An account whose quota is smaller than the configured cap, or a subnet with few free addresses: EC2 refuses each launch that
//! would exceed it as a whole.

use serde_json::json;

use crate::support::{
    aws_cluster::Cluster,
    jobs::{QUICK_JOBS, bill_of, boot_calls, view},
};

const JOBS: usize = 12;
/// Width and height of images whose jobs take so long that every instance is needed.
const SIZE: u32 = 3_000;
const CAP: u64 = 10;
/// Four instances of two vCPUs.
const QUOTA: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_done_within_a_quota_of_four_instances_after_few_refusals_and_cost_no_more() {
    let settings = [
        ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.large"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "10"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1s"),
        // No instance stops between two jobs.
        ("ROLLCALL__WORKER__IDLE_STOP", "6s"),
    ];
    let cluster = Cluster::start(&[&QUICK_JOBS[..], &settings].concat()).await;
    // Boots take so long that the others are asked for meanwhile.
    cluster.ec2.post_control("/delays", json!({ "pending": 3.0 })).await;
    // The same jobs with a cap that the operator has set to what the quota allows.
    let node = cluster.node_with("serve", &[("ROLLCALL__FLEET__MAX_INSTANCES", &QUOTA.to_string())]).await;
    let usual = bill_of(&cluster, &node, JOBS, SIZE).await;
    node.end();

    cluster.ec2.post_control("/supply", json!({ "vcpus": 2 * QUOTA })).await;
    let node = cluster.node("serve").await;
    assert_eq!(view(&node).await["max_instances"], CAP);
    let calls = boot_calls(&cluster).await;
    let bill = bill_of(&cluster, &node, JOBS, SIZE).await;
    // At least: a call may start several instances.
    let refused = (boot_calls(&cluster).await - calls).saturating_sub(bill.starts as u64);
    let after = view(&node).await;
    let learned = after["max_instances"].as_u64().expect("a number");
    println!(
        "without a quota: {usual}\nquota of {QUOTA}: {bill}; {refused} refused calls, and a cap of {learned} learned"
    );
    assert!((1..=QUOTA).contains(&learned), "the cap that it has learned: {learned}");
    assert!(after["events"].to_string().contains("VcpuLimitExceeded"), "{}", after["events"]);
    assert!(cluster.ledger().await.most_running() <= QUOTA as usize);
    // Each refusal halves what is asked for, down to one.
    assert!(refused <= u64::from(CAP.ilog2()) + 1, "{refused} refused calls, and a cap of {learned} learned");
    assert!(bill.starts as u64 <= QUOTA.max(usual.starts as u64), "{bill}");
    assert!(bill.total() <= 1.5 * usual.total(), "{bill} instead of {usual}");
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_done_by_as_many_instances_as_the_subnet_has_addresses() {
    let settings = [
        ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.large"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "10"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "6s"),
        // All jobs are there before the first launch.
        ("ROLLCALL__FLEET__POLL_EVERY", "2s"),
    ];
    let cluster = Cluster::start(&[&QUICK_JOBS[..], &settings].concat()).await;
    cluster.ec2.post_control("/delays", json!({ "pending": 3.0 })).await;
    cluster.ec2.post_control("/supply", json!({ "addresses": QUOTA })).await;
    let node = cluster.node("serve").await;
    let calls = boot_calls(&cluster).await;
    let bill = bill_of(&cluster, &node, JOBS, SIZE).await;
    let refused = (boot_calls(&cluster).await - calls).saturating_sub(bill.starts as u64);
    let after = view(&node).await;
    println!("{QUOTA} addresses: {bill}; {refused} refused calls, {} at most", cluster.ledger().await.most_running());
    assert!(after["events"].to_string().contains("InsufficientFreeAddressesInSubnet"), "{}", after["events"]);
    let most = cluster.ledger().await.most_running();
    // Each refusal halves what is asked for.
    assert!((QUOTA as usize / 2..=QUOTA as usize).contains(&most), "{most} instances at a time");
    // Down until something fits, and up again.
    assert!(refused <= 2 * u64::from(CAP.ilog2()), "{refused} refused calls");
    node.end();
}

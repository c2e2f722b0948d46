//! Workers that get other subnets are replaced, and reach AWS until then.

use std::time::Duration;

use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};
use rollcall_testing::wait_until;

use crate::{
    aws_private_workers::{alive, network, subnet_in},
    support::account::Account,
};

/// Settings of all machines: as quick as the emulators allow. No worker ends by itself.
const MACHINES: [(&str, &str); 8] = [
    ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
    ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
    ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
    ("ROLLCALL__FLEET__LEASE", "3s"),
    ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
    ("ROLLCALL__WORKER__THREADS", "1"),
    ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
    ("ROLLCALL__LOG__LEVEL", "info"),
];
/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const STATE: &str = "rollcall-state-000000000000-us-east-1";

async fn upload(account: &Account) {
    let response = post(&account.web("/"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());
}

/// Waits until there are workers in that subnet and nowhere else.
async fn wait_for_move(account: &Account, subnet: &str) {
    wait_until("all workers are in the other subnet", TIMEOUT, async || {
        let workers = alive(account).await;
        !workers.is_empty() && workers.iter().all(|worker| worker.subnet_id() == Some(subnet))
    })
    .await;
}

/// Returns the route tables of the endpoint of S3, and the subnets of each other endpoint.
async fn endpoints(account: &Account) -> (Vec<String>, Vec<Vec<String>>) {
    let endpoints = account.ec2().await.describe_vpc_endpoints().send().await.expect("a list");
    let (s3, others): (Vec<_>, Vec<_>) =
        endpoints.vpc_endpoints().iter().partition(|e| e.service_name().is_some_and(|name| name.ends_with(".s3")));
    let [s3] = s3[..] else { panic!("{s3:?}") };
    let mut tables = s3.route_table_ids().to_vec();
    tables.sort();
    (tables, others.iter().map(|endpoint| endpoint.subnet_ids().to_vec()).collect())
}

fn sorted<const N: usize>(mut ids: [&String; N]) -> Vec<String> {
    ids.sort();
    ids.map(String::clone).to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_in_subnets_that_are_no_longer_theirs_are_replaced() {
    let account = Account::start(&MACHINES).await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let subnets = account.ec2().await.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let [first, second] = [0, 1].map(|n: usize| subnets[n].subnet_id().expect("an id"));
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8", "--worker-subnets", first]).done();
    account.run_on_cluster(STATE, &["enroll", KNOWN]).done();
    upload(&account).await;
    assert!(alive(&account).await.iter().all(|worker| worker.subnet_id() == Some(first)));
    account.run(&["aws", "up", "--worker-subnets", second]).done();
    upload(&account).await;
    wait_for_move(&account, second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_of_s3_serves_the_earlier_subnets_until_no_worker_is_left_in_them() {
    let account = Account::start(&MACHINES).await;
    let ec2 = account.ec2().await;
    let [vpc, public] = network(&account).await;
    let [a, table_a] = subnet_in(&ec2, &vpc, "10.9.1.0/24", "us-east-1a").await;
    let [b, table_b] = subnet_in(&ec2, &vpc, "10.9.2.0/24", "us-east-1b").await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--vpc", &vpc, "--subnet", &public];
    account.run(&[&up[..], &["--worker-subnets", &a, "--private-workers", "--endpoints"]].concat()).done();
    account.run_on_cluster(STATE, &["enroll", KNOWN]).done();
    upload(&account).await;
    assert!(alive(&account).await.iter().all(|worker| worker.subnet_id() == Some(&a)));
    assert_eq!(endpoints(&account).await.0, std::slice::from_ref(&table_a));

    account.run(&["aws", "up", "--worker-subnets", &b]).done();
    assert_eq!(endpoints(&account).await.0, sorted([&table_a, &table_b]));
    upload(&account).await;
    wait_for_move(&account, &b).await;
    upload(&account).await;
    let lost = account.s3().await.list_objects_v2().bucket(STATE).prefix("dead-letters/").send().await.expect("a list");
    assert_eq!(lost.contents().len(), 0, "{lost:?}");

    // Nobody needs the first table any more.
    account.run(&["aws", "up"]).done();
    assert_eq!(endpoints(&account).await.0, [table_b]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_interface_endpoint_is_in_one_subnet_of_each_zone() {
    let account = Account::start(&[]).await;
    let ec2 = account.ec2().await;
    let [vpc, public] = network(&account).await;
    let [a, table_a] = subnet_in(&ec2, &vpc, "10.9.1.0/24", "us-east-1a").await;
    let [b, table_b] = subnet_in(&ec2, &vpc, "10.9.2.0/24", "us-east-1b").await;
    let [other_a, other_table_a] = subnet_in(&ec2, &vpc, "10.9.3.0/24", "us-east-1a").await;
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678", "--vpc", &vpc, "--subnet", &public];
    let subnets = [a.as_str(), &b, &other_a].join(",");
    account.run(&[&up[..], &["--worker-subnets", &subnets, "--private-workers", "--endpoints"]].concat()).done();
    let all = sorted([&table_a, &table_b, &other_table_a]);
    assert_eq!(endpoints(&account).await, (all.clone(), vec![vec![a.clone(), b]; 3]));

    // EC2 refuses to add a subnet of a zone in which there is one, so that one stays.
    account.run(&["aws", "up", "--image", "ami-12345678", "--worker-subnets", &other_a]).done();
    assert_eq!(endpoints(&account).await, (all, vec![vec![a.clone()]; 3]));
    account.run(&["aws", "up", "--image", "ami-12345678"]).done();
    assert_eq!(endpoints(&account).await, (vec![other_table_a], vec![vec![a]; 3]));
}

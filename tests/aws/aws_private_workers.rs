//! Workers need no public address: with VPC endpoints they reach all that they need.

use std::time::Duration;

use aws_sdk_ec2::types::Instance;
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};
use rollcall_testing::wait_until;

use crate::support::account::Account;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Returns the machines that run, except the one with the elastic address.
async fn workers(account: &Account) -> Vec<Instance> {
    let machines =
        account.ec2().await.describe_instances().send().await.expect("a list").reservations.unwrap_or_default();
    let machines = machines.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default());
    let is_worker = |machine: &Instance| machine.tags().iter().any(|tag| tag.key() == Some("rollcall:cluster"));
    machines.filter(is_worker).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_without_a_public_address_do_their_work_through_vpc_endpoints() {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__LOG__LEVEL", "info"),
    ])
    .await;
    let before = account.inventory().await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--private-workers", "--endpoints"];
    let outputs = account.run(&up).done();
    let bucket = outputs.lines().find_map(|line| line.strip_prefix("StateBucket ")).expect("its name");
    let enrolled = account
        .command(&["enroll", KNOWN])
        .env("ROLLCALL__CLOUD__KIND", "aws")
        .env("ROLLCALL__STORE__STATE", bucket)
        .status();
    assert!(enrolled.expect("the program starts").success());
    let response = post(&account.web("/"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());

    let workers = workers(&account).await;
    let [worker] = &workers[..] else { panic!("{workers:?}") };
    assert_eq!(worker.public_ip_address(), None);
    let groups: Vec<_> =
        worker.network_interfaces()[0].groups().iter().filter_map(|group| group.group_name()).collect();
    assert!(matches!(groups[..], [group] if group.contains("WorkerGroup")), "{groups:?}");

    let id = worker.instance_id().expect("an id");
    wait_until("its log has arrived", TIMEOUT, async || {
        account.run(&["aws", "logs", "--instance", id]).done().contains("rollcall-worker")
    })
    .await;

    // The endpoints are gone with the stack.
    account.run(&["aws", "down", "--delete-data", "--delete-images"]).done();
    let endpoints = account.ec2().await.describe_vpc_endpoints().send().await.expect("a list");
    let states = endpoints.vpc_endpoints().iter().filter_map(|endpoint| endpoint.state()).map(|state| state.as_str());
    assert!(states.clone().count() > 0 && states.clone().all(|state| state == "deleted"), "{endpoints:?}");
    wait_until("nothing is left", TIMEOUT, async || {
        let changes = account.changes(&before).await;
        changes.added.is_empty() && changes.gone.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_stack_become_private_even_if_up_ends_before_the_update() {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
        ("ROLLCALL__LOG__LEVEL", "info"),
    ])
    .await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let ec2 = account.ec2().await;
    let subnets = ec2.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let (vpc, subnet) = (subnets[0].vpc_id().expect("an id"), subnets[0].subnet_id().expect("an id"));
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8", "--vpc", vpc, "--subnet", subnet]).done();
    account.run_on_cluster("rollcall-state-000000000000-us-east-1", &["enroll", KNOWN]).done();
    let upload = async || {
        let response = post(&account.web("/"), form(&[("a.jpg", &photo(MACRON))])).await;
        assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());
    };
    upload().await;
    let alive = async || {
        let ended = |worker: &Instance| {
            let state = worker.state().and_then(|state| state.name()).map(|name| name.as_str());
            matches!(state, Some("shutting-down" | "terminated"))
        };
        let mut workers = workers(&account).await;
        workers.retain(|worker| !ended(worker));
        workers
    };
    assert!(alive().await.iter().all(|worker| worker.public_ip_address().is_some()));

    // The command does not wait for the end. What it has begun goes on.
    let why = account.run(&["aws", "up", "--private-workers", "--endpoints", "--timeout", "0s"]).failed();
    assert!(why.contains("still changing"), "{why}");
    wait_until("no worker with a public address is left", TIMEOUT, async || {
        alive().await.iter().all(|worker| worker.public_ip_address().is_none())
    })
    .await;
    upload().await;
    let workers = alive().await;
    assert!(!workers.is_empty() && workers.iter().all(|worker| worker.public_ip_address().is_none()), "{workers:?}");
}

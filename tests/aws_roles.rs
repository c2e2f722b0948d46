//! The roles of deploy/cloudformation.yaml grant what a run uses, and nothing else.
#![cfg(feature = "aws")]

#[path = "support/aws_cluster.rs"]
mod aws_cluster;
#[path = "support/counting_proxy.rs"]
mod counting_proxy;
#[path = "support/emulators.rs"]
mod emulators;
#[path = "support/rollcall.rs"]
mod support;
#[path = "support/uploads.rs"]
mod uploads;
#[path = "support/wait.rs"]
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_cluster::{Cluster, Node};
use support::wait_until;
use uploads::{KNOWN, MACRON, form, photo, post};

const PATIENCE: Duration = Duration::from_secs(120);

/// Actions of SQS and EC2 that the template grants between two of its lines.
fn granted(from: &str, to: &str) -> BTreeSet<String> {
    let template = std::fs::read_to_string("deploy/cloudformation.yaml").expect("the template");
    let role = template.split_once(from).expect("the role").1.split_once(to).expect("its end").0;
    let words = role.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
    let actions = words.filter(|word| word.starts_with("sqs:") || word.starts_with("ec2:"));
    // A key of conditions, not an action.
    actions.filter(|action| *action != "ec2:CreateAction").map(str::to_owned).collect()
}

/// What the calls of SQS need: a batch needs what its single call needs, a queue with tags needs the right to tag.
fn sqs(counts: &BTreeMap<String, usize>) -> BTreeSet<String> {
    let mut rights: BTreeSet<String> = counts.keys().map(|a| format!("sqs:{}", a.trim_end_matches("Batch"))).collect();
    if rights.contains("sqs:CreateQueue") {
        rights.insert("sqs:TagQueue".into());
    }
    rights
}

/// The calls of EC2 that were made with that access key.
async fn ec2(cluster: &Cluster, key: &str) -> BTreeSet<String> {
    let callers = cluster.ec2.ask("/callers").await;
    let actions = callers.as_object().expect("an object").iter();
    let theirs = actions.filter(|(_, keys)| keys.as_array().is_some_and(|keys| keys.iter().any(|k| k == key)));
    let mut rights: BTreeSet<String> = theirs.map(|(action, _)| format!("ec2:{action}")).collect();
    if rights.contains("ec2:RunInstances") {
        rights.insert("ec2:CreateTags".into()); // launches are tagged
    }
    rights
}

async fn upload(node: &Node, n: usize) {
    let (url, photo) = (node.url("/"), photo(MACRON));
    let uploads = (0..n).map(|_| async { assert_eq!(post(&url, form(&[("x.jpg", &photo)])).await.status(), 200) });
    futures_util::future::join_all(uploads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_grant_what_a_run_uses_and_nothing_else() {
    let cluster =
        Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2"), ("ROLLCALL__FLEET__SWEEP_EVERY", "10s")]).await;
    cluster.enroll(KNOWN);
    let controller = cluster.node("controller").await;
    let web = cluster.node("web").await;
    upload(&web, 8).await;
    wait_until("an idle instance stops", PATIENCE, async || cluster.count(&["stopped"]).await > 0).await;
    upload(&web, 8).await; // starts it again
    wait_until("the sweep ends all", PATIENCE, async || {
        cluster.count(&["pending", "running", "stopping", "stopped"]).await == 0
    })
    .await;
    web.end();
    controller.end();

    let mut worker = sqs(&cluster.worker_calls.counts());
    worker.extend(ec2(&cluster, "ASIAEMULATOR").await);
    // How a spot instance ends itself; there were none.
    worker.insert("ec2:TerminateInstances".into());
    // Asked when the cloud seems to be gone; it was not.
    worker.insert("sqs:GetQueueAttributes".into());
    // Extends a job that takes long; none did.
    worker.insert("sqs:ChangeMessageVisibility".into());
    assert_eq!(granted("\n  WorkerRole:", "\n  WorkerProfile:"), worker);

    let mut node = sqs(&cluster.node_calls.counts());
    node.extend(ec2(&cluster, "test").await);
    // Gives back replies whose router was being rebuilt; it was not.
    node.insert("sqs:ChangeMessageVisibility".into());
    assert_eq!(granted("\n  WebRole:", "\n  WebProfile:"), node);
}

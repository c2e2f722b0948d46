//! From the upload to the answer on SQS, S3 and EC2: a web node, a controller, and real worker processes behind the
//! emulator's instances.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::time::Duration;

use crate::support::aws_cluster::{Cluster, Node};
use crate::support::fleet_watch::FleetWatch;
use futures_util::future::join_all;
use rollcall::cloud::{
    Depth, ObjectStore, Queues,
    aws::{Encryption, S3Objects, SqsQueues},
};
use rollcall_testing::uploads::{self, ARDERN, KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;

/// Longest wait for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const ALIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// Sends `n` uploads at the same time, and checks that all are answered correctly.
async fn upload(node: &Node, n: usize) {
    let url = node.url("/");
    let photos = [(photo(MACRON), "Emmanuel_Macron"), (photo(ARDERN), "Jacinda_Ardern")];
    let uploads = (0..n).map(|i| {
        let ((bytes, label), url) = (&photos[i % 2], &url);
        async move {
            let answer = post(url, form(&[(&format!("test_{i}.jpg"), bytes)])).await;
            assert_eq!(uploads::said(answer).await, (200, (*label).to_owned()), "upload {i}");
        }
    });
    join_all(uploads).await;
}

/// Returns the depths of the request and reply queues.
async fn depths(cluster: &Cluster) -> [Depth; 2] {
    let queues = SqsQueues::new(cluster.sqs().await, Duration::ZERO, "rollcall");
    let mut depths = [Depth::default(); 2];
    for (depth, name) in depths.iter_mut().zip(["rollcall-listener.fifo", "rollcall-speaker"]) {
        *depth = queues.open(name).await.expect("the queue").depth().await.expect("a depth");
    }
    depths
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_uploads_are_answered_while_the_fleet_goes_from_nothing_to_the_cap_and_back() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "3"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "2s"),
        ("ROLLCALL__STORE__INPUT_KEY", "{file}"),
        ("ROLLCALL__STORE__OUTPUT_KEY", "{stem}"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    assert!(cluster.instances().await.is_empty(), "the fleet starts from nothing");

    let watch = FleetWatch::start(&cluster).await;
    upload(&node, 100).await;
    wait_until("every instance is terminated", PATIENCE, async || cluster.count(&ALIVE).await == 0).await;
    let (most, _) = watch.end().await;
    assert_eq!(most, 3, "the cap is reached and never exceeded");

    wait_until("both queues are empty", PATIENCE, async || depths(&cluster).await == [Depth::default(); 2]).await;
    let store = S3Objects::new(cluster.s3().await, Encryption::S3);
    for (bucket, suffix) in [("input", ".jpg"), ("output", "")] {
        let objects = store.list(&cluster.bucket(bucket), "").await.expect("a listing");
        let mut keys: Vec<String> = objects.into_iter().map(|o| o.key).collect();
        let mut expected: Vec<String> = (0..100).map(|i| format!("test_{i}{suffix}")).collect();
        keys.sort();
        expected.sort();
        assert_eq!(keys, expected, "{bucket}");
    }
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_instances_are_started_before_new_ones_are_launched() {
    let cluster =
        Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2"), ("ROLLCALL__FLEET__SWEEP_EVERY", "1h")]).await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    upload(&node, 10).await;
    wait_until("idle instances stop", PATIENCE, async || cluster.count(&["stopped"]).await == 2).await;
    let before = cluster.instances().await;
    upload(&node, 10).await;
    wait_until("idle instances stop", PATIENCE, async || cluster.count(&["stopped"]).await == 2).await;
    assert_eq!(cluster.instances().await, before, "the same instances did the work");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_web_node_has_a_reply_queue_of_its_own_that_goes_with_it() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2"), ("ROLLCALL__FLEET__LEASE", "3s")]).await;
    cluster.enroll(KNOWN);
    let _controller = cluster.node("controller").await;
    let nodes = [cluster.node("web").await, cluster.node("web").await];
    tokio::join!(upload(&nodes[0], 12), upload(&nodes[1], 20));
    // A node counts every reply that it receives.
    for (node, uploads) in nodes.iter().zip([12, 20]) {
        let metrics = reqwest::get(node.url("/metrics")).await.expect("an answer").text().await.expect("text");
        let received = metrics.lines().find_map(|line| line.strip_prefix("rollcall_worker_seconds_count "));
        assert_eq!(received, Some(uploads.to_string().as_str()), "replies to its own uploads and no others");
    }
    let speakers = async || {
        let list =
            cluster.sqs().await.list_queues().queue_name_prefix("rollcall-speaker-").send().await.expect("a list");
        list.queue_urls.unwrap_or_default().len()
    };
    assert_eq!(speakers().await, 2);
    for node in nodes {
        node.end();
    }
    assert_eq!(speakers().await, 0, "their reply queues went with them");

    cluster.node("web").await.kill9();
    assert_eq!(speakers().await, 1, "a killed node leaves its queue");
    wait_until("the controller deletes it", PATIENCE, async || speakers().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_serve_do_not_take_each_others_replies() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "1")]).await;
    cluster.enroll(KNOWN);
    let nodes = [cluster.node("serve").await, cluster.node("serve").await];
    // A reply to the wrong node would be found in the store, but only after the deadline of two minutes.
    let uploads = async { tokio::join!(upload(&nodes[0], 20), upload(&nodes[1], 20)) };
    tokio::time::timeout(PATIENCE / 2, uploads).await.expect("no upload waits for its deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_acts_and_the_other_takes_over_when_it_is_killed() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1h"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let first = cluster.node("controller").await;
    let second = cluster.node("controller").await;
    let web = cluster.node("web").await;
    upload(&web, 6).await;
    wait_until("idle instances stop", PATIENCE, async || cluster.count(&["stopped"]).await > 0).await;
    let before = cluster.instances().await;
    assert!(before.len() <= 2, "two would have launched for themselves: {before:?}");
    first.kill9();
    upload(&web, 6).await;
    let after = cluster.instances().await;
    assert!(after.len() <= 2 && after.iter().any(|(id, _)| *id == before[0].0), "{after:?} after {before:?}");
    second.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_leaves_its_job_to_the_next_and_one_that_is_interrupted_drains() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__QUEUE__VISIBILITY", "3s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1h"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    upload(&node, 1).await;
    let worker = async || cluster.ec2.ask("/instances").await[0].clone();
    let pid = worker().await["pid"].as_i64().expect("a process");
    let uploads = upload(&node, 30);
    let signal = |signal| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
        nix::sys::signal::kill(pid, signal).expect("it is ours");
    };
    let in_hand = async || depths(&cluster).await[0].in_flight > 0;
    let killed = async {
        loop {
            wait_until("a job is in hand", PATIENCE, in_hand).await;
            signal(nix::sys::signal::Signal::SIGSTOP); // what it holds now, it keeps
            if in_hand().await {
                return signal(nix::sys::signal::Signal::SIGKILL);
            }
            signal(nix::sys::signal::Signal::SIGCONT);
        }
    };
    tokio::join!(uploads, killed);

    let notice = serde_json::json!({ "action": "terminate", "time": "2026-01-01T00:00:00Z" });
    cluster.ec2.set("/notice", serde_json::json!({ "id": worker().await["id"], "notice": notice })).await;
    wait_until("the worker drains and stops its instance", PATIENCE, async || worker().await["state"] == "stopped")
        .await;
}

/// How long the launches that are refused are counted at least: at a steady ten per second they exceed the limit.
const COUNTED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn when_ec2_refuses_launches_it_is_not_hammered_and_the_uploads_wait_for_it() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2")]).await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    let launches = async || cluster.ec2.ask("/calls").await["RunInstances"].as_u64().unwrap_or(0);
    for (code, status) in [("RequestLimitExceeded", 503), ("InsufficientInstanceCapacity", 500), ("InternalError", 500)]
    {
        let before = launches().await;
        let refused = serde_json::json!([{ "action": "RunInstances", "code": code, "status": status, "times": 1000 }]);
        cluster.ec2.set("/faults", refused).await;
        let began = std::time::Instant::now();
        let moody = async {
            wait_until("it was refused and asked again", PATIENCE, async || launches().await >= before + 3).await;
            tokio::time::sleep(COUNTED.saturating_sub(began.elapsed())).await;
            // The rate limit that AWS publishes for RunInstances: a burst of five, then two per second.
            let allowed = 5.0 + 2.0 * began.elapsed().as_secs_f64();
            let asked = launches().await - before;
            assert!(asked as f64 <= allowed, "{code}: {asked} launches where {allowed:.0} are allowed");
            cluster.ec2.set("/faults", serde_json::json!([])).await;
        };
        tokio::join!(upload(&node, 4), moody);
        wait_until("idle instances stop", PATIENCE, async || cluster.count(&["running", "pending"]).await == 0).await;
        let gone: Vec<String> = cluster.instances().await.into_iter().map(|(id, _)| id).collect();
        for id in gone {
            cluster.ec2.set("/kill", serde_json::json!({ "id": id })).await; // the next round begins with no instances
        }
    }
}

//! From the upload to the response on SQS, S3 and EC2: a web node, a controller, and real worker processes behind the
//! emulator's instances.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::time::Duration;

use crate::support::aws_cluster::{Cluster, Node};
use crate::support::counting_proxy::CountingProxy;
use crate::support::fleet_watch::FleetWatch;
use aws_sdk_ec2::types::Instance;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use rollcall::cloud::{
    Depth, ObjectStore, Queues,
    aws::{Encryption, S3Objects, SqsQueues, ec2_client},
};
use rollcall_testing::uploads::{self, ARDERN, KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;
use serde_json::Value;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const ALIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// Sends `n` uploads at the same time, and checks that all responses are correct.
async fn upload(node: &Node, n: usize) {
    let url = node.url("/");
    let photos = [(photo(MACRON), "Emmanuel_Macron"), (photo(ARDERN), "Jacinda_Ardern")];
    let uploads = (0..n).map(|i| {
        let ((bytes, label), url) = (&photos[i % 2], &url);
        async move {
            let response = post(url, form(&[(&format!("test_{i}.jpg"), bytes)])).await;
            assert_eq!(uploads::status_and_text(response).await, (200, (*label).to_owned()), "upload {i}");
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
async fn a_hundred_uploads_succeed_while_the_fleet_scales_from_zero_and_back() {
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
    wait_until("every instance is terminated", TIMEOUT, async || cluster.count(&ALIVE).await == 0).await;
    let (most, _) = watch.end().await;
    assert_eq!(most, 3, "the cap is reached and never exceeded");

    wait_until("both queues are empty", TIMEOUT, async || depths(&cluster).await == [Depth::default(); 2]).await;
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
    wait_until("idle instances stop", TIMEOUT, async || cluster.count(&["stopped"]).await == 2).await;
    let before = cluster.instances().await;
    upload(&node, 10).await;
    wait_until("idle instances stop", TIMEOUT, async || cluster.count(&["stopped"]).await == 2).await;
    assert_eq!(cluster.instances().await, before, "the same instances did the work");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_web_node_has_its_own_reply_queue_which_is_deleted_with_it() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2"), ("ROLLCALL__FLEET__LEASE", "3s")]).await;
    cluster.enroll(KNOWN);
    cluster.node_calls.clear();
    let reply_queues = async || {
        let list = cluster.sqs().await.list_queues().queue_name_prefix("rollcall-speaker_").send().await;
        list.expect("a list").queue_urls.unwrap_or_default()
    };
    let _controller = cluster.node("controller").await;
    // The controller looks for queues of dead nodes now, and again when the lease of a node may have expired.
    wait_until("the controller looks for nodes that are gone", TIMEOUT, async || {
        cluster.node_calls.counts().keys().any(|call| call.starts_with("ListObjectsV2 "))
    })
    .await;
    let living = cluster.node("web").await;
    let [of_living]: [String; 1] = reply_queues().await.try_into().expect("one queue");
    cluster.node("web").await.kill9();
    let earlier = reply_queues().await;
    let of_killed = earlier.iter().find(|queue| **queue != of_living).expect("a killed node leaves its queue");

    let ending = cluster.node("web").await;
    let of_ending =
        reply_queues().await.into_iter().find(|queue| !earlier.contains(queue)).expect("a queue of its own");
    tokio::join!(upload(&living, 12), upload(&ending, 20));
    // A node counts every reply that it receives.
    for (node, uploads) in [(&living, 12), (&ending, 20)] {
        let metrics = reqwest::get(node.url("/metrics")).await.expect("a response").text().await.expect("text");
        let received =
            metrics.lines().find_map(|line| line.strip_prefix("rollcall_job_worker_duration_seconds_count "));
        assert_eq!(received, Some(uploads.to_string().as_str()), "replies to its own uploads and no others");
    }
    ending.end();
    let left = reply_queues().await;
    assert!(!left.contains(&of_ending), "its reply queue went with it: {left:?}");
    assert!(left.contains(&of_living), "and no other: {left:?}");

    wait_until("the controller deletes the queue of the killed node", TIMEOUT, async || {
        !reply_queues().await.contains(of_killed)
    })
    .await;
    assert_eq!(reply_queues().await, [of_living.as_str()], "a node that lives keeps its queue");
    upload(&living, 2).await;
    assert_eq!(reply_queues().await, [of_living.as_str()], "it still has its queue");

    // A controller takes it for gone, because S3 has not seen it for longer than its lease, and deletes both.
    cluster.sqs().await.delete_queue().queue_url(&of_living).send().await.expect("deleted");
    let lease = format!("web-nodes/{}", of_living.rsplit('/').next().expect("a name"));
    let deleted = cluster.s3().await.delete_object().bucket(cluster.bucket("state")).key(lease).send().await;
    deleted.expect("deleted");
    wait_until("its queue is there again", TIMEOUT, async || reply_queues().await == [of_living.as_str()]).await;
    upload(&living, 2).await;
    living.end();
    assert!(reply_queues().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_serve_do_not_take_each_others_replies() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "1")]).await;
    cluster.enroll(KNOWN);
    let nodes = [cluster.node("serve").await, cluster.node("serve").await];
    // A reply to the wrong node would be found in the store, but only after the deadline of two minutes.
    let uploads = async { tokio::join!(upload(&nodes[0], 20), upload(&nodes[1], 20)) };
    tokio::time::timeout(TIMEOUT * 3 / 4, uploads).await.expect("no upload waits for its deadline");
}

/// A controller with proxies of its own, which record what it calls.
struct Controller {
    node: Node,
    ec2: CountingProxy,
    s3: CountingProxy,
}

impl Controller {
    async fn start(cluster: &Cluster) -> Self {
        let ec2 = CountingProxy::start(&cluster.ec2_calls.url).await;
        let s3 = CountingProxy::start(&cluster.node_calls.url).await;
        let own = [("AWS_ENDPOINT_URL_EC2", ec2.url.as_str()), ("AWS_ENDPOINT_URL_S3", s3.url.as_str())];
        let node = cluster.node_with("controller", &own).await;
        Self { node, ec2, s3 }
    }

    /// Returns the number of its calls to EC2.
    fn calls(&self) -> usize {
        self.ec2.calls().len()
    }

    /// Returns the number of those that change instances.
    fn changes(&self) -> usize {
        let changes = ["RunInstances", "StartInstances", "TerminateInstances"];
        self.ec2.calls().iter().filter(|(_, action)| changes.contains(&action.as_str())).count()
    }

    /// Returns how often it has read from S3. A standby reads the lease, and the fleet as the active controller sees
    /// it.
    fn reads(&self) -> usize {
        self.s3.calls().iter().filter(|(_, action)| action.starts_with("GetObject ")).count()
    }
}

/// Returns the epoch of the controller that holds the lease.
async fn epoch(cluster: &Cluster) -> u64 {
    let store = S3Objects::new(cluster.s3().await, Encryption::S3);
    let lease = store.get(&cluster.bucket("state"), "controller-lease").await.expect("the lease");
    let lease: Value = serde_json::from_slice(&lease.bytes).expect("JSON");
    lease["epoch"].as_u64().expect("a number")
}

/// Returns the launch token of each instance.
async fn tokens(cluster: &Cluster) -> Vec<String> {
    let ec2 = ec2_client(&rollcall_testing::emulators::sdk(&cluster.ec2.url).await);
    let response = ec2.describe_instances().send().await.expect("a description");
    let instances = response.reservations().iter().flat_map(|r| r.instances());
    let token = |instance: &Instance| {
        let tag = instance.tags().iter().find(|tag| tag.key() == Some("rollcall:token")).expect("a token");
        tag.value().expect("a value").to_owned()
    };
    instances.map(token).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_controller_takes_over_when_the_active_one_fails() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__FLEET__LEASE", "5s"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1h"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let first = Controller::start(&cluster).await;
    wait_until("the first acts", TIMEOUT, async || first.calls() > 0).await;
    let second = Controller::start(&cluster).await;
    wait_until("the second stands by", TIMEOUT, async || second.reads() > 0).await;
    let web = cluster.node("web").await;
    let work = async || {
        upload(&web, 6).await;
        wait_until("idle instances stop", TIMEOUT, async || {
            cluster.instances().await.iter().all(|(_, state)| state == "stopped")
        })
        .await;
    };
    work().await;
    let before = cluster.instances().await;
    assert!((1..=2).contains(&before.len()), "{before:?}");
    assert!(first.changes() > 0 && second.calls() == 0, "only the holder of the lease calls EC2");
    let of_first = epoch(&cluster).await;
    let launched = tokens(&cluster).await;
    assert!(launched.iter().all(|token| token.starts_with(&format!("{of_first:x}-"))), "{of_first:x}: {launched:?}");

    // One that was paused for longer than its lease finds another in its place, and does not act again.
    first.node.signal(Signal::SIGSTOP);
    wait_until("the second takes over", TIMEOUT, async || second.calls() > 0).await;
    let (changes, reads) = (first.changes(), first.reads());
    first.node.signal(Signal::SIGCONT);
    wait_until("the first stands by", TIMEOUT, async || first.reads() > reads + 5).await;
    let calls = first.calls();
    work().await;
    assert!(second.changes() > 0, "the second acts");
    assert_eq!((first.calls(), first.changes()), (calls, changes), "the first does not");
    assert_eq!(epoch(&cluster).await, of_first + 1);

    second.node.kill9();
    work().await;
    assert!(first.changes() > changes, "the first takes over");
    assert_eq!(epoch(&cluster).await, of_first + 2);
    let after = cluster.instances().await;
    assert!(after.len() <= 2 && after.iter().any(|(id, _)| *id == before[0].0), "{after:?} after {before:?}");
    first.node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_killed_worker_are_redone_and_an_interrupted_worker_drains() {
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
    let worker = async || cluster.ec2.get_control("/instances").await[0].clone();
    let pid = worker().await["pid"].as_i64().expect("a process");
    let uploads = upload(&node, 30);
    let signal = |signal| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
        nix::sys::signal::kill(pid, signal).expect("it is ours");
    };
    let in_flight = async || depths(&cluster).await[0].in_flight > 0;
    let killed = async {
        loop {
            wait_until("a job is in flight", TIMEOUT, in_flight).await;
            signal(nix::sys::signal::Signal::SIGSTOP); // what it holds now, it keeps
            if in_flight().await {
                return signal(nix::sys::signal::Signal::SIGKILL);
            }
            signal(nix::sys::signal::Signal::SIGCONT);
        }
    };
    tokio::join!(uploads, killed);

    let notice = serde_json::json!({ "action": "terminate", "time": "2026-01-01T00:00:00Z" });
    cluster.ec2.post_control("/notice", serde_json::json!({ "id": worker().await["id"], "notice": notice })).await;
    wait_until("the worker drains and stops its instance", TIMEOUT, async || worker().await["state"] == "stopped")
        .await;
}

/// How long the launches that are refused are counted at least: at a steady ten per second they exceed the limit.
const COUNTED: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn refused_launches_stay_within_ec2_rate_limits_and_uploads_wait() {
    let cluster = Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2")]).await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    let launches = async || cluster.ec2.get_control("/calls").await["RunInstances"].as_u64().unwrap_or(0);
    for (code, status) in [("RequestLimitExceeded", 503), ("InsufficientInstanceCapacity", 500), ("InternalError", 500)]
    {
        let before = launches().await;
        let refused = serde_json::json!([{ "action": "RunInstances", "code": code, "status": status, "times": 1000 }]);
        cluster.ec2.post_control("/faults", refused).await;
        let began = std::time::Instant::now();
        let refusals = async {
            wait_until("it was refused and called again", TIMEOUT, async || launches().await >= before + 3).await;
            tokio::time::sleep(COUNTED.saturating_sub(began.elapsed())).await;
            // The rate limit that AWS publishes for RunInstances: a burst of five, then two per second.
            let allowed = 5.0 + 2.0 * began.elapsed().as_secs_f64();
            let attempts = launches().await - before;
            assert!(attempts as f64 <= allowed, "{code}: {attempts} launches where {allowed:.0} are allowed");
            cluster.ec2.post_control("/faults", serde_json::json!([])).await;
        };
        tokio::join!(upload(&node, 4), refusals);
        wait_until("idle instances stop", TIMEOUT, async || cluster.count(&["running", "pending"]).await == 0).await;
        let gone: Vec<String> = cluster.instances().await.into_iter().map(|(id, _)| id).collect();
        for id in gone {
            cluster.ec2.post_control("/kill", serde_json::json!({ "id": id })).await; // the next round begins with no instances
        }
    }
}

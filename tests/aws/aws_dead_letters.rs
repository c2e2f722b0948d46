//! A job that is given up on AWS: who waits for its answer is told so at once, not at the deadline, and it is counted by a
//! metric once, whatever happens to the controller.

use std::{fs::File, path::Path, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::cloud::{Queues as _, aws::SqsQueues};
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};
use rollcall_testing::wait_until;
use serde_json::Value;

use crate::support::aws_cluster::{Cluster, Node};

const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a job may take to reach a worker that waits for one.
const RECEIVED: Duration = Duration::from_secs(10);

/// Starts a cluster with one worker, whose jobs are given up when it dies.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(&[
        ("ROLLCALL__AWS__METRICS", "true"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__QUEUE__VISIBILITY", "5s"),
        ("ROLLCALL__QUEUE__MAX_RECEIVES", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "1h"),
    ])
    .await;
    cluster.enroll(KNOWN);
    cluster
}

async fn upload(url: String) -> (u16, String) {
    status_and_text(post(&url, form(&[("x.jpg", &photo(MACRON))])).await).await
}

/// Uploads an image, whose worker receives the job and dies with it. Returns the response.
async fn give_up(cluster: &Cluster, node: &Node) -> (u16, String) {
    let done = (200, "Emmanuel_Macron".to_owned());
    let requests = SqsQueues::new(cluster.sqs().await, Duration::ZERO, "rollcall").open("rollcall-listener.fifo").await;
    let requests = requests.expect("the queue");
    loop {
        assert_eq!(upload(node.url("/")).await, done);
        wait_until("its job is done", TIMEOUT, async || requests.depth().await.expect("a depth").total() == 0).await;
        let instances = cluster.ec2.get_control("/instances").await;
        let running = |instance: &&Value| instance["pid"].is_number();
        let worker = instances.as_array().expect("a list").iter().find(running).expect("a worker");
        let worker = Pid::from_raw(worker["pid"].as_i64().expect("a process") as i32);
        kill(worker, Signal::SIGSTOP).expect("it runs");
        let waiting = tokio::spawn(upload(node.url("/")));
        let is_in_flight = async || requests.depth().await.expect("a depth").in_flight == 1;
        let received = wait_until("the worker has received it", TIMEOUT, is_in_flight);
        if tokio::time::timeout(RECEIVED, received).await.is_ok() {
            kill(worker, Signal::SIGKILL).expect("it runs");
            return waiting.await.expect("a response");
        }
        // It was stopped between two receives, unless the job was given up before this was seen.
        kill(worker, Signal::SIGCONT).expect("it runs");
        let response = waiting.await.expect("a response");
        if response != done {
            return response;
        }
    }
}

/// Returns the values of a metric in the lines of a node's output, in which the format has defined it.
fn metric(output: &Path, name: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(output).expect("the output of a node");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let defined = |line: &Value| {
        let metrics = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array();
        metrics.is_some_and(|metrics| metrics.iter().any(|metric| metric["Name"] == name))
    };
    lines.filter(defined).map(|line| line[name].as_u64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_dead_letter_is_counted_once_and_a_new_controller_counts_none_again() {
    let (cluster, folder) = (cluster().await, tempfile::tempdir().expect("a temporary folder"));
    for (stored, controller) in ["first", "second"].into_iter().enumerate() {
        let output = folder.path().join(controller);
        let file = File::create(&output).expect("a file");
        let node = cluster.node_to("serve", &[], file.into()).await;
        wait_until("it has counted what is stored", TIMEOUT, async || {
            metric(&output, "rollcall_dead_letters_stored") == [stored as u64]
        })
        .await;
        assert_eq!(metric(&output, "rollcall_dead_letters_total"), [0; 0], "those are not new");
        give_up(&cluster, &node).await;
        wait_until("it is counted", TIMEOUT, async || metric(&output, "rollcall_dead_letters_total") == [1]).await;
        node.end();
        assert_eq!(metric(&output, "rollcall_dead_letters_total"), [1]);
    }
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_of_a_job_that_is_given_up_is_told_so() {
    let cluster = cluster().await;
    let node = cluster.node("serve").await;
    let (status, text) = give_up(&cluster, &node).await;
    assert!(status != 504 && text.contains("given up after one attempt"), "{status} {text}");
    node.end();
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
}

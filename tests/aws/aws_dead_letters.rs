//! A job that is given up on AWS: who waits for its answer is told so at once, not at the deadline.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::cloud::{Queues as _, aws::SqsQueues};
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};
use rollcall_testing::wait_until;

use crate::support::aws_cluster::Cluster;

const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_of_a_job_that_is_given_up_is_told_so() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__QUEUE__VISIBILITY", "5s"),
        ("ROLLCALL__QUEUE__MAX_RECEIVES", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "1h"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    let url = node.url("/");
    let upload = async |url: String| status_and_text(post(&url, form(&[("x.jpg", &photo(MACRON))])).await).await;
    assert_eq!(upload(url.clone()).await, (200, "Emmanuel_Macron".to_owned()));
    // The worker receives the next job, and dies with it.
    let instances = cluster.ec2.get_control("/instances").await;
    let worker = Pid::from_raw(instances[0]["pid"].as_i64().expect("a process") as i32);
    kill(worker, Signal::SIGSTOP).expect("it runs");
    let waiting =
        tokio::spawn(async move { status_and_text(post(&url, form(&[("x.jpg", &photo(MACRON))])).await).await });
    let requests = SqsQueues::new(cluster.sqs().await, Duration::ZERO, "rollcall").open("rollcall-listener.fifo").await;
    let requests = requests.expect("the queue");
    wait_until("the worker has received it", TIMEOUT, async || requests.depth().await.expect("a depth").in_flight == 1)
        .await;
    kill(worker, Signal::SIGKILL).expect("it runs");
    let (status, text) = waiting.await.expect("a response");
    assert!(status != 504 && text.contains("given up after one attempt"), "{status} {text}");
    node.end();
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
}

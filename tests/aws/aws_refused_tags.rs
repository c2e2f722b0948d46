//! A worker that EC2 does not let tag its instance works all the same, and counts as running.

use std::time::Duration;

use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;
use serde_json::{Value, json};

use crate::support::aws_cluster::{Cluster, Node};

const TIMEOUT: Duration = Duration::from_secs(120);

async fn running(node: &Node) -> u64 {
    let fleet = reqwest::get(node.url("/v1/fleet")).await.expect("a response");
    fleet.json::<Value>().await.expect("JSON")["counts"]["running"].as_u64().expect("a number")
}

/// Returns whether the only instance is tagged as ready.
async fn is_tagged(cluster: &Cluster) -> bool {
    let instances = cluster.ec2.get_control("/instances").await;
    !instances[0]["tags"]["rollcall:ready"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_tag_is_refused_works_and_is_tagged_later() {
    let cluster =
        Cluster::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "1"), ("ROLLCALL__WORKER__IDLE_STOP", "1h")]).await;
    cluster.enroll(KNOWN);
    let refused =
        |times: u32| json!([{ "action": "CreateTags", "code": "RequestLimitExceeded", "status": 503, "times": times }]);
    cluster.ec2.post_control("/faults", refused(1_000)).await;
    let node = cluster.node("serve").await;
    assert_eq!(post(&node.url("/"), form(&[("x.jpg", &photo(MACRON))])).await.status(), 200);
    wait_until("the fleet counts it as running", TIMEOUT, async || running(&node).await == 1).await;
    assert!(!is_tagged(&cluster).await, "its tag is refused");
    cluster.ec2.post_control("/faults", json!([])).await;
    wait_until("it is tagged", TIMEOUT, async || is_tagged(&cluster).await).await;
    // A new controller knows it by its tag.
    node.end();
    let node = cluster.node("serve").await;
    wait_until("the next controller counts it as well", TIMEOUT, async || running(&node).await == 1).await;
    assert_eq!(cluster.instances().await.len(), 1);
}

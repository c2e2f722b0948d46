//! The rules of the fleet on EC2 with a hundred uploads at once: the cap is reached and never exceeded, stopped
//! instances are started before any is launched, and the sweep terminates stopped ones.

use std::{collections::BTreeSet, time::Duration};

use crate::support::aws_cluster::{Cluster, Node};
use crate::support::fleet_watch::FleetWatch;
use futures_util::future::join_all;
use rollcall_testing::uploads::{faceless, form, post, status_and_text};
use rollcall_testing::wait_until;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(300);
const UPLOADS: usize = 100;

async fn upload(node: &Node) {
    let (url, image) = (node.url("/"), faceless(320, 240));
    let uploads = (0..UPLOADS).map(|n| {
        let (url, image) = (&url, &image);
        async move {
            let response = post(url, form(&[(&format!("test_{n}.png"), image)])).await;
            assert_eq!(status_and_text(response).await.0, 200, "upload {n}");
        }
    });
    join_all(uploads).await;
}

async fn ids(cluster: &Cluster) -> BTreeSet<String> {
    cluster.instances().await.into_iter().map(|(id, _)| id).collect()
}

async fn calls(cluster: &Cluster, action: &str) -> u64 {
    cluster.ec2.get_control("/calls").await[action].as_u64().unwrap_or(0)
}

async fn start(cap: usize) -> (Cluster, Node, FleetWatch) {
    let text = cap.to_string();
    // A classifier, which takes next to no CPU time: all these workers share the cores of the test machine.
    let cluster = Cluster::start(&[
        ("ROLLCALL__RECOGNITION__KIND", "classifier"),
        ("ROLLCALL__RECOGNITION__CLASSIFIER", "tests/models/colour_classifier.onnx"),
        ("ROLLCALL__RECOGNITION__LABELS", "tests/models/colour_labels.txt"),
        ("ROLLCALL__FLEET__POLICY", "one-per-job"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", &text),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "1h"),
        ("ROLLCALL__WORKER__IDLE_STOP", "5s"),
    ])
    .await;
    let node = cluster.node("serve").await;
    let watch = FleetWatch::start(&cluster).await;
    (cluster, node, watch)
}

async fn all_stop(cluster: &Cluster, cap: usize) {
    wait_until("idle instances stop", TIMEOUT, async || cluster.count(&["stopped"]).await == cap).await;
}

async fn assert_most(watch: FleetWatch, cap: usize) {
    let (most, samples) = watch.end().await;
    println!("cap {cap}: at most {most} instances in {samples} samples");
    assert_eq!(most, cap, "the cap is reached and never exceeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_uploads_reach_but_never_exceed_a_cap_of_15() {
    let (cluster, node, watch) = start(15).await;
    upload(&node).await;
    all_stop(&cluster, 15).await;
    assert_most(watch, 15).await;
    node.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_uploads_reach_but_never_exceed_a_cap_of_19() {
    let (cluster, node, watch) = start(19).await;
    upload(&node).await;
    all_stop(&cluster, 19).await;
    let first = ids(&cluster).await;
    assert_eq!(first.len(), 19);

    let (launched, started) = (calls(&cluster, "RunInstances").await, calls(&cluster, "StartInstances").await);
    upload(&node).await;
    all_stop(&cluster, 19).await;
    assert_eq!(ids(&cluster).await, first, "the same instances did the work");
    assert_eq!(calls(&cluster, "RunInstances").await, launched, "nothing was launched while some could be started");
    assert!(calls(&cluster, "StartInstances").await > started);

    // Another controller adopts them, and its sweep terminates them.
    node.end();
    let node = cluster.node_with("serve", &[("ROLLCALL__FLEET__SWEEP_EVERY", "2s")]).await;
    wait_until("the sweep terminates stopped instances", TIMEOUT, async || cluster.count(&["terminated"]).await == 19)
        .await;
    assert_most(watch, 19).await;
    node.end();
}

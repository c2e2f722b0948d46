//! A controller counts on the cores of the machines that it launches, not on those of its own.

use std::time::Duration;

use rollcall_testing::uploads::{KNOWN, MACRON, form, photo};
use rollcall_testing::wait_until;
use serde_json::Value;

use crate::support::aws_cluster::Cluster;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Jobs of a second each that one machine with 16 cores finishes in time, and one with two does not.
const JOBS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_launches_fewer_instances_if_each_has_more_cores() {
    let cluster = Cluster::start(&[
        // Of several types, the smallest counts.
        ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.8xlarge,c7i.4xlarge"),
        ("ROLLCALL__FLEET__TARGET_LATENCY", "60s"),
        ("ROLLCALL__FLEET__BOOT_COLD", "1s"),
        ("ROLLCALL__FLEET__BOOT_WARM", "1s"),
        ("ROLLCALL__FLEET__SERVICE_TIME", "1s"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let web = cluster.node("web").await;
    let (client, photo) = (reqwest::Client::new(), photo(MACRON));
    for n in 0..JOBS {
        let request = client.post(web.url("/v1/recognitions")).header("Prefer", "respond-async");
        let response = request.multipart(form(&[(&format!("{n}.jpg"), &photo)])).send().await.expect("a response");
        assert_eq!(response.status(), 202);
    }
    let node = cluster.node_with("serve", &[("ROLLCALL__WORKER__THREADS", "auto")]).await;
    let mut decisions = Value::Null;
    wait_until("the first instances are launched", TIMEOUT, async || {
        let response = reqwest::get(node.url("/v1/fleet/decisions")).await.expect("a response");
        decisions = response.json().await.expect("JSON");
        decisions.as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    assert_eq!((&decisions[0]["kind"], &decisions[0]["count"]), (&"launch".into(), &1.into()), "{decisions}");
}

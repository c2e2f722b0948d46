//! Credentials are in no log, no object and no response.

use std::time::Duration;

use crate::support::aws_cluster::Cluster;
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;

const TIMEOUT: Duration = Duration::from_secs(120);
/// Secrets that must appear nowhere: those of a node's credentials, and that of a worker's, from its metadata service.
const OF_NODE: &str = "NODESECRETwJalrXUtnFEMIK7MDENG";
const TOKEN_OF_NODE: &str = "NODETOKENIQoJb3JpZ2luX2VjEJr";
const OF_WORKER: &str = "WORKERSECRETbPxRfiCYzEXAMPLE";

fn has_none(place: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for secret in [OF_NODE, TOKEN_OF_NODE, OF_WORKER] {
        let at = text.find(secret);
        assert!(at.is_none(), "{place}: …{}", &text[at.unwrap_or(0).saturating_sub(200)..][..200]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_object_or_response_contains_a_secret() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let log = log.to_str().expect("a path");
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "5s"),
        ("ROLLCALL__LOG__LEVEL", "debug"),
        ("EC2_SHIM_LOG", log),
        ("EC2_SHIM_SECRET", OF_WORKER),
    ])
    .await;
    let credentials = [("AWS_SECRET_ACCESS_KEY", OF_NODE), ("AWS_SESSION_TOKEN", TOKEN_OF_NODE)];
    let run = |arguments: &[&str], more: &[(&str, &str)]| {
        let output = cluster.command(arguments).envs(credentials).envs(more.iter().copied()).output();
        let output = output.expect("the program starts");
        has_none(&format!("{arguments:?}"), &[output.stdout, output.stderr].concat());
        output.status.success()
    };
    assert!(run(&["enroll", KNOWN], &[]));
    let node = cluster.node_with("serve", &credentials).await;
    let photo = photo(MACRON);
    assert_eq!(post(&node.url("/"), form(&[("x.jpg", &photo)])).await.status(), 200);
    // Failed calls are the ones that are logged.
    let refused =
        serde_json::json!([{ "action": "DescribeInstances", "code": "AuthFailure", "status": 401, "times": 3 }]);
    cluster.ec2.post_control("/faults", refused).await;
    wait_until("a refused call is reported", TIMEOUT, async || {
        let fleet = reqwest::get(node.url("/v1/fleet")).await.expect("a response").text().await.expect("text");
        fleet.contains("AuthFailure")
    })
    .await;
    for path in ["/v1/fleet", "/v1/fleet/decisions", "/metrics", "/v1/people"] {
        has_none(path, &reqwest::get(node.url(path)).await.expect("a response").bytes().await.expect("bytes"));
    }
    assert!(run(&["doctor", "--json"], &[]));
    assert!(run(&["config", "show"], &[]));
    assert!(!run(
        &["doctor"],
        &[("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1"), ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")]
    ));
    wait_until("the worker ends", TIMEOUT, async || cluster.count(&["running", "pending"]).await == 0).await;
    node.end();

    let text = std::fs::read(log).expect("a log");
    let lines = String::from_utf8_lossy(&text);
    assert!(lines.contains("lease acquired") && lines.contains(" ready "), "the logs of node and worker");
    has_none("the logs", &text);
    let s3 = cluster.s3().await;
    let mut objects = 0;
    for bucket in ["input", "output", "state"].map(|kind| cluster.bucket(kind)) {
        for object in s3.list_objects_v2().bucket(&bucket).send().await.expect("a list").contents() {
            let key = object.key().expect("a key");
            let body = s3.get_object().bucket(&bucket).key(key).send().await.expect("the object").body;
            has_none(key, &body.collect().await.expect("its bytes").into_bytes());
            objects += 1;
        }
    }
    assert!(objects >= 4, "photo, label, result and gallery: {objects}");
}

//! `rollcall doctor` finds what is wrong with a set-up on AWS, one fault at a time, and names the remedy.

use crate::support::aws_cluster::Cluster;
use serde_json::{Value, json};

/// Returns the findings of `rollcall doctor` with these variables set or, for `None`, removed.
fn findings(cluster: &Cluster, env: &[(&str, Option<&str>)]) -> Vec<Value> {
    let mut command = cluster.command(&["doctor", "--json"]);
    for (key, value) in env {
        match value {
            Some(value) => command.env(key, value),
            None => command.env_remove(key),
        };
    }
    let output = command.output().expect("the program starts");
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    assert_eq!(output.status.success(), list.iter().all(|f| f["ok"] == true), "the exit code agrees");
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_and_its_remedy_named() {
    let cluster = Cluster::start(&[]).await;
    cluster.node("serve").await.end(); // makes the queues
    let healthy = findings(&cluster, &[]);
    assert!(healthy.iter().all(|f| f["ok"] == true), "{healthy:#?}");

    let damaged = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(damaged.path(), "no model").expect("written");
    let damaged = damaged.path().to_str().expect("a path");
    let settings = |key: &'static str, value| vec![(key, Some(value))];
    let nobody = vec![("AWS_ACCESS_KEY_ID", None), ("AWS_EC2_METADATA_DISABLED", Some("true"))];
    for (env, what, fault, remedy) in [
        (settings("ROLLCALL__RECOGNITION__RUNTIME", "/nowhere.so"), "recognition", "/nowhere.so", "make setup"),
        (settings("ROLLCALL__RECOGNITION__DETECTOR", "/nowhere.onnx"), "recognition", "/nowhere.onnx", "make setup"),
        (settings("ROLLCALL__RECOGNITION__EMBEDDER", damaged), "recognition", damaged, "recognition.*"),
        (vec![("AWS_REGION", None)], "AWS", "no AWS region", "AWS_REGION"),
        (nobody, "credentials", "no AWS credentials", "AWS_PROFILE"),
        (settings("ROLLCALL__AWS__USER_DATA", "/nowhere.sh"), "AWS", "aws.user_data", "aws.*"),
        (settings("ROLLCALL__QUEUE__LISTENER", "other.fifo"), "queue other.fifo", "not found", "rollcall serve"),
        (
            settings("ROLLCALL__QUEUE__VISIBILITY", "60s"),
            "queue rollcall-speaker",
            "VisibilityTimeout is 30, not 60",
            "correct what the message names",
        ),
        (
            settings("ROLLCALL__QUEUE__MAX_RECEIVES", "9"),
            "queue rollcall-listener.fifo",
            "RedrivePolicy",
            "correct what the message names",
        ),
        (
            settings("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1"),
            "queue rollcall-speaker",
            "unavailable",
            "AWS_ENDPOINT_URL",
        ),
        (
            settings("ROLLCALL__STORE__OUTPUT", "nobody-made-this"),
            "bucket nobody-made-this",
            "NoSuchBucket",
            "store.output",
        ),
    ] {
        expect(&findings(&cluster, &env), what, fault, remedy);
    }
    for (code, fault, remedy) in [
        ("UnauthorizedOperation", "UnauthorizedOperation", "deploy/cloudformation.yaml"),
        ("InvalidAMIID.NotFound", "InvalidAMIID.NotFound", "aws.image"),
        ("VcpuLimitExceeded", "VcpuLimitExceeded", "fleet.max_instances"),
        ("RequestExpired", "RequestExpired", "clock"),
    ] {
        cluster.ec2.post_control("/faults", json!([{"action": "RunInstances", "code": code, "times": 1}])).await;
        expect(&findings(&cluster, &[]), "launch", fault, remedy);
    }
}

fn expect(findings: &[Value], what: &str, fault: &str, remedy: &str) {
    let found = findings.iter().find(|f| f["what"] == what && f["ok"] == false);
    let Some(found) = found else { panic!("{what} is not found wrong: {findings:#?}") };
    assert!(found["detail"].as_str().expect("text").contains(fault), "{fault}: {found}");
    assert!(found["remedy"].as_str().expect("text").contains(remedy), "{remedy}: {found}");
}

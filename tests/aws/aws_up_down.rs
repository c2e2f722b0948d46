//! `rollcall aws up` and `down`: from nothing to an answered upload, and back to nothing.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::time::Duration;

use crate::support::account::{self, Account};
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, said};
use serde_json::json;

/// Longest wait for anything here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const UP: [&str; 4] = ["aws", "up", "--allow-from", "10.0.0.0/8"];

fn buckets() -> Vec<String> {
    ["input", "output", "state"].map(|kind| format!("rollcall-{kind}-000000000000")).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_an_answered_upload_and_back_to_nothing() {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__LOG__LEVEL", "warn"),
    ])
    .await;
    let image = account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let outputs = account.run(&UP).done();
    assert!(outputs.contains("Address http://") && outputs.contains(":5000/"), "{outputs}");
    let enrolled = account
        .command(&["enroll", KNOWN])
        .env("ROLLCALL__CLOUD__KIND", "aws")
        .env("ROLLCALL__STORE__STATE", &buckets()[2])
        .status();
    assert!(enrolled.expect("the program starts").success());

    let began = std::time::Instant::now();
    while !reqwest::get(account.web("/readyz")).await.is_ok_and(|answer| answer.status() == 200) {
        assert!(began.elapsed() < PATIENCE, "the web node does not answer: {}", account.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let photo = photo(MACRON);
    let uploads = (0..4).map(|n| {
        let (url, photo) = (account.web("/"), &photo);
        async move { said(post(&url, form(&[(&format!("{n}.jpg"), photo)])).await).await }
    });
    for answer in futures_util::future::join_all(uploads).await {
        assert_eq!(answer, (200, "Emmanuel_Macron".to_owned()));
    }
    assert!(account.states().await.iter().filter(|state| *state == "running").count() > 1, "web node and workers");

    let left = account.run(&["aws", "down"]).done();
    assert!(account.states().await.iter().all(|state| state == "terminated"));
    assert!(left.contains(image.trim()), "{left}");
    assert!(buckets().iter().all(|bucket| left.contains(bucket.as_str())), "{left}");
    assert!(left.contains("with 4 objects"), "the photos are kept: {left}");

    let left = account.run(&["aws", "down", "--delete-data", "--delete-images"]).done();
    assert_eq!(left, "nothing is left: the cluster costs nothing\n");
    assert_eq!(account.buckets().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_before_anything_is_made() {
    let account = Account::start(&[]).await;
    let why = account.run(&UP).failed();
    assert!(why.contains("rollcall aws bake"), "{why}");
    let why = account.run(&["aws", "up", "--image", "ami-12345678"]).failed();
    assert!(why.contains("--allow-from") && why.contains("no login"), "{why}");
    assert_eq!(account.buckets().await, Vec::<String>::new());

    let mut nobody = account.command(&UP);
    nobody.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
    let why = account::said(nobody.output().expect("the program starts")).failed();
    assert!(why.contains("AWS_PROFILE"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn said_again_they_go_on_from_what_is_there() {
    let account = Account::start(&[]).await;
    let up = [&UP[..], &["--image", "ami-12345678"]].concat();

    // A stack whose creation fails is reported with the reason, and the next attempt creates it again.
    let faults = json!([{ "action": "RunInstances", "code": "VcpuLimitExceeded", "status": 400, "times": 1 }]);
    account.ec2.set("/faults", faults).await;
    let why = account.run(&up).failed();
    assert!(why.contains("Web:") && why.contains("VcpuLimitExceeded"), "{why}");
    assert_eq!(account.buckets().await, Vec::<String>::new(), "a stack that was never there keeps nothing");
    account.run(&up).done();
    let mut made = account.buckets().await;
    made.sort();
    assert_eq!(made, buckets());

    let again = account.run(&["aws", "up"]);
    assert!(again.well && again.err.contains("nothing to change"), "{}", again.err);

    // A change reaches the workers: the newest version of the launch template becomes the default.
    account.run(&["aws", "up", "--worker-type", "c7i.xlarge"]).done();
    let ec2 = account.ec2().await;
    let templates = ec2.describe_launch_templates().send().await.expect("a list");
    let template = &templates.launch_templates()[0];
    assert_eq!((template.latest_version_number(), template.default_version_number()), (Some(2), Some(2)));

    // Buckets outlive the stack, and the next stack uses them again.
    let s3 = account.s3().await;
    s3.put_object().bucket(&buckets()[0]).key("photo.jpg").send().await.expect("put");
    account.run(&["aws", "down"]).done();
    account.run(&up).done();
    let there = s3.list_objects_v2().bucket(&buckets()[0]).send().await.expect("a list");
    assert_eq!(there.contents().len(), 1);

    // The cluster's workers are terminated with it; others are not.
    let launch = |cluster: &str| {
        let tag = aws_sdk_ec2::types::Tag::builder().key("rollcall:cluster").value(cluster).build();
        let tags = aws_sdk_ec2::types::TagSpecification::builder().tags(tag);
        let tags = tags.resource_type(aws_sdk_ec2::types::ResourceType::Instance).build();
        ec2.run_instances().image_id("ami-12345678").min_count(1).max_count(1).tag_specifications(tags).send()
    };
    launch("rollcall").await.expect("launched");
    launch("other").await.expect("launched");
    account.run(&["aws", "down", "--delete-data"]).done();
    assert_eq!(account.states().await.iter().filter(|state| *state != "terminated").count(), 1);
    assert_eq!(account.run(&["aws", "down"]).done(), "nothing is left: the cluster costs nothing\n");
}

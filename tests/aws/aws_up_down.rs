//! `rollcall aws up` and `down`: from nothing to a recognised upload, and back to nothing.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{io::Write as _, process::Stdio, time::Duration};

use crate::{
    deployment::alive,
    support::{
        account::{self, Account},
        inventory::Changes,
    },
    web_nodes_stack::web_variables,
};
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use nix::pty::openpty;
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};
use serde_json::json;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

const UP: [&str; 4] = ["aws", "up", "--allow-from", "10.0.0.0/8"];

fn buckets() -> Vec<String> {
    ["input", "output", "state"].map(|kind| format!("rollcall-{kind}-000000000000-us-east-1")).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn up_leads_from_nothing_to_a_recognised_upload_and_down_back_to_nothing() {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__LOG__LEVEL", "warn"),
    ])
    .await;
    account.create_another_cluster().await;
    let (before, machines_before) = (account.inventory().await, account.machines().await.len());
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
    while !reqwest::get(account.web("/readyz")).await.is_ok_and(|response| response.status() == 200) {
        assert!(began.elapsed() < TIMEOUT, "the web node does not respond: {}", account.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let photo = photo(MACRON);
    let uploads = (0..4).map(|n| {
        let (url, photo) = (account.web("/"), &photo);
        async move { status_and_text(post(&url, form(&[(&format!("{n}.jpg"), photo)])).await).await }
    });
    for response in futures_util::future::join_all(uploads).await {
        assert_eq!(response, (200, "Emmanuel_Macron".to_owned()));
    }
    let running = account.states().await.iter().filter(|state| *state == "running").count();
    assert!(running > machines_before + 1, "web node and workers");
    // A web node that was killed has left its reply queue.
    let left = account.sqs().await.create_queue().queue_name("rollcall-speaker_killed");
    left.tags("rollcall:cluster", "rollcall").send().await.expect("a queue");

    let (image, snapshot) = (image.trim(), account.snapshot_of(image.trim()).await);
    let left = account.run(&["aws", "down"]).done();
    let mut kept: Vec<String> = buckets().iter().map(|bucket| format!("bucket {bucket}")).collect();
    kept.extend([format!("image {image}"), "log group /rollcall/rollcall".into(), format!("snapshot {snapshot}")]);
    assert_eq!(account.changes(&before).await, Changes { added: kept, gone: Vec::new() });
    let photos = account.s3().await.list_objects_v2().bucket(&buckets()[0]).send().await.expect("a list");
    assert_eq!(photos.contents().len(), 4, "the photos are kept");
    // The command reports it too.
    assert!(left.contains(image), "{left}");
    assert!(buckets().iter().all(|bucket| left.contains(bucket.as_str())), "{left}");
    assert!(left.contains("with 4 objects"), "{left}");

    let left = account.run(&["aws", "down", "--delete-data", "--delete-images"]).done();
    assert_eq!(left, "nothing is left: the cluster costs nothing\n");
    assert_eq!(account.changes(&before).await, Changes::default(), "only what was there before");
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_belong_to_one_account_and_region() {
    let account = Account::start(&[]).await;
    let up = [&UP[..], &["--image", "ami-12345678"]].concat();
    // The bucket of a stack of an earlier release has people, and no region in its name.
    let (s3, people) = (account.s3().await, "rollcall-state-000000000000");
    s3.create_bucket().bucket(people).send().await.expect("a bucket");
    let outputs = account.run(&up).done();
    assert!(outputs.contains(&format!("StateBucket {people}\n")), "{outputs}");
    account.run(&["aws", "up", "--worker-type", "c7i.xlarge"]).done();
    let mut made = account.buckets().await;
    made.sort();
    assert_eq!(made, ["input", "output", "state"].map(|kind| format!("rollcall-{kind}-000000000000")));
    account.run(&["aws", "down", "--delete-data"]).done();
    assert_eq!(account.buckets().await, Vec::<String>::new());

    // A cluster of the same name in another region has buckets of that name.
    let elsewhere = [
        ("input", BucketLocationConstraint::EuCentral1),
        ("output", BucketLocationConstraint::EuCentral1),
        ("state", BucketLocationConstraint::EuCentral1),
    ];
    for (kind, region) in elsewhere {
        let configuration = CreateBucketConfiguration::builder().location_constraint(region).build();
        let call = s3.create_bucket().bucket(format!("rollcall-{kind}-000000000000"));
        call.create_bucket_configuration(configuration).send().await.expect("a bucket");
    }
    let outputs = account.run(&up).done();
    assert!(outputs.contains(&format!("StateBucket {}\n", buckets()[2])), "{outputs}");
    let left = account.run(&["aws", "down", "--delete-data"]).done();
    assert_eq!(account.buckets().await.len(), 3, "those of the other region stay: {left}");

    // A name that would be too long is refused before anything is made.
    let mut long = account.command(&up);
    long.env("ROLLCALL__CLOUD__CLUSTER", "a".repeat(32)).env("AWS_REGION", "ap-southeast-1");
    let why = account::command_output(long.output().expect("the program starts")).failed();
    assert!(why.contains("4 characters too long"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_requirements_are_reported_before_anything_is_created() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    let why = account.run(&UP).failed();
    assert!(why.contains("rollcall aws bake"), "{why}");
    let why = account.run(&["aws", "up", "--image", "ami-12345678"]).failed();
    assert!(why.contains("--allow-from") && why.contains("unencrypted"), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());

    let mut nobody = account.command(&UP);
    nobody.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
    let why = account::command_output(nobody.output().expect("the program starts")).failed();
    assert!(why.contains("AWS_PROFILE"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_up_says_what_it_costs_and_asks_before_it_creates_a_stack() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    // Without a terminal, as in every other test here, it does not ask.
    let up = |more: &[&str], typed: &str| {
        let terminal = openpty(None, None).expect("a terminal");
        let mut command = account.command(&[&UP[..], &["--image", "ami-12345678"], more].concat());
        command.stdin(terminal.slave).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        std::fs::File::from(terminal.master.try_clone().expect("ours")).write_all(typed.as_bytes()).expect("typed");
        let output = child.wait_with_output().expect("it ends");
        drop(terminal.master);
        account::command_output(output)
    };
    let why = up(&[], "n\n").failed();
    assert!(why.contains("$ a month") && why.contains("go on?") && why.contains("nothing was created"), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());
    let created = up(&[], "y\n");
    assert!(created.success && created.err.contains("go on?"), "{}", created.err);
    account.run(&["aws", "down", "--delete-data"]).done();
    let created = up(&["--yes"], "");
    assert!(created.success && !created.err.contains("go on?"), "{}", created.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_can_be_repeated() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    let up = [&UP[..], &["--image", "ami-12345678"]].concat();

    // A stack whose creation fails is reported with the reason, and the next attempt creates it again.
    let faults = json!([{ "action": "RunInstances", "code": "VcpuLimitExceeded", "status": 400, "times": 1 }]);
    account.ec2.post_control("/faults", faults).await;
    let why = account.run(&up).failed();
    assert!(why.contains("Web:") && why.contains("VcpuLimitExceeded"), "{why}");
    assert_eq!(account.buckets().await, Vec::<String>::new(), "a stack that was never there keeps nothing");
    account.run(&up).done();
    let mut made = account.buckets().await;
    made.sort();
    assert_eq!(made, buckets());

    let again = account.run(&["aws", "up"]);
    assert!(again.success && again.err.contains("nothing to change"), "{}", again.err);

    // The type of a single web node cannot be changed while it serves, so another one replaces it.
    let ec2 = account.ec2().await;
    let first = alive(&ec2).await;
    account.run(&["aws", "up", "--web-type", "t3.medium"]).done();
    let [node] = &alive(&ec2).await[..] else { panic!("one web node") };
    assert_eq!(node.instance_type().map(|kind| kind.as_str()), Some("t3.medium"));
    assert!(first.len() == 1 && first[0].instance_id() != node.instance_id(), "{first:?} was stopped");

    // A change reaches the workers: the web nodes launch the version of the launch template that they were made with. Which one
    // is the default does not matter.
    account.run(&["aws", "up", "--worker-type", "c7i.xlarge"]).done();
    let templates = ec2.describe_launch_templates().send().await.expect("a list");
    let mut templates = templates.launch_templates().iter();
    let template = templates.find(|template| template.launch_template_name() == Some("rollcall-worker")).expect("it");
    assert_eq!((template.latest_version_number(), template.default_version_number()), (Some(2), Some(1)));
    assert_eq!(web_variables(&ec2).await["ROLLCALL__AWS__LAUNCH_TEMPLATE_VERSION"], "2");

    // Buckets outlive the stack, and the next stack uses them again.
    let s3 = account.s3().await;
    s3.put_object().bucket(&buckets()[0]).key("photo.jpg").send().await.expect("put");
    account.run(&["aws", "down"]).done();
    account.run(&up).done();
    let there = s3.list_objects_v2().bucket(&buckets()[0]).send().await.expect("a list");
    assert_eq!(there.contents().len(), 1);

    // The cluster's workers are terminated with it; others are not.
    account.launch("rollcall:cluster", "rollcall").await;
    let other = account.launch("rollcall:cluster", "other").await;
    account.run(&["aws", "down", "--delete-data"]).done();
    let Changes { added, gone } = account.changes(&before).await;
    assert!(gone.is_empty() && added.contains(&format!("machine {other}")), "{added:?} {gone:?}");
    let disks = added.iter().filter(|thing| thing.starts_with("volume ")).count();
    assert_eq!((added.len(), disks), (2, 1), "the other's machine with its disk: {added:?}");
    assert_eq!(account.run(&["aws", "down"]).done(), "nothing is left: the cluster costs nothing\n");
}

//! `rollcall aws bake`: the image is complete; nothing else is left behind, even after an error or an interruption; and
//! `rollcall aws down` finds what a killed bake leaves.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use crate::support::{
    account::{self, Account, command_output, program},
    inventory::Changes,
};
use aws_sdk_ec2::types::{InstanceStateName, Tag};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::wait_until;

const BAKE_ARGS: [&str; 4] = ["aws", "bake", "--base", "ami-12345678"];
/// Longest wait for anything that is expected to happen.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The tags of machines that a bake must leave alone: a worker of the cluster, a builder of another bake, and one of
/// another cluster.
const OTHERS: [(&str, &str); 3] =
    [("rollcall:cluster", "rollcall"), ("rollcall:bake", "rollcall"), ("rollcall:bake", "other")];

fn bake<'a>(program: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&BAKE_ARGS[..], &["--program", program], more].concat()
}

/// Checks that the account contains what it contained before and nothing else.
async fn assert_unchanged(account: &Account, before: &BTreeSet<String>) {
    assert_eq!(account.changes(before).await, Changes::default());
}

async fn image_count(account: &Account) -> usize {
    let images = account.ec2().await.describe_images().owners("self").send().await.expect("a list");
    images.images().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_contains_all_that_machines_need_and_belongs_to_the_cluster() {
    let account = Account::start(&[]).await;
    for (key, cluster) in OTHERS {
        account.launch(key, cluster).await;
    }
    let before = account.inventory().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path(), "exit 0");
    let id = account.run(&bake(&program, &[])).done().trim().to_owned();
    let made = vec![format!("image {id}"), format!("snapshot {}", account.snapshot_of(&id).await)];
    assert_eq!(account.changes(&before).await, Changes { added: made, gone: Vec::new() });
    let disk = account.disk(&id);
    for path in [
        "opt/rollcall/rollcall",
        "opt/rollcall/.assets/onnxruntime/libonnxruntime.so",
        "opt/rollcall/.assets/models/face_detection_yunet_2023mar.onnx",
        "opt/rollcall/.assets/models/face_recognition_sface_2021dec.onnx",
        "opt/rollcall/.assets/models/face_recognition_sface_2021dec_int8.onnx",
        "etc/rollcall/aws.toml",
        "etc/systemd/system/rollcall-serve.service",
        "etc/systemd/system/rollcall-worker.service",
    ] {
        assert!(disk.join(path).is_file(), "{path}");
    }
    assert!(!disk.join("enabled").exists(), "an image starts nothing by itself");

    let ec2 = account.ec2().await;
    let image = ec2.describe_images().image_ids(&id).send().await.expect("the image").images.expect("one").remove(0);
    assert_eq!(image.state().map(|s| s.as_str()), Some("available"));
    let is_ours =
        |tags: &[Tag]| tags.iter().any(|tag| tag.key() == Some("rollcall:cluster") && tag.value() == Some("rollcall"));
    assert!(is_ours(image.tags()), "{:?}", image.tags());
    // What `up` reads, also where the image is shared without its tags.
    let stated = |tags: &[Tag]| {
        let tag =
            |key: &str| tags.iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value()).map(str::to_owned);
        (tag("rollcall:image-format"), tag("rollcall:release"))
    };
    let (format, release) = stated(image.tags());
    let (format, release) = (format.expect("a number"), release.expect("a release"));
    assert_eq!((format.parse::<u32>().is_ok(), release.as_str()), (true, env!("CARGO_PKG_VERSION")));
    assert_eq!(image.description(), Some(format!("Rollcall {release}, image format {format}").as_str()));
    let snapshot = image.block_device_mappings()[0].ebs().and_then(|disk| disk.snapshot_id()).expect("a snapshot");
    let snapshots = ec2.describe_snapshots().snapshot_ids(snapshot).send().await.expect("the snapshot");
    assert!(is_ours(snapshots.snapshots()[0].tags()), "{snapshots:?}");
    assert_eq!(stated(snapshots.snapshots()[0].tags()), (Some(format), Some(release)));

    // The builder is not tagged as a worker.
    let machines = ec2.describe_instances().send().await.expect("a list");
    let terminated = |state: &InstanceStateName| *state == InstanceStateName::Terminated;
    let mut builders = machines.reservations().iter().flat_map(|r| r.instances());
    let builder = builders.find(|i| i.state().and_then(|s| s.name()).is_some_and(terminated)).expect("the builder");
    assert!(!is_ours(builder.tags()));

    // A second image, while the bucket contains an object of a third bake.
    let (s3, bucket) = (account.s3().await, "rollcall-bake-000000000000-us-east-1");
    s3.create_bucket().bucket(bucket).send().await.expect("a bucket");
    s3.put_object().bucket(bucket).key("third/package.tar.gz").send().await.expect("an object");
    assert_ne!(account.run(&bake(&program, &[])).done().trim(), id);
    assert_eq!(image_count(&account).await, 2);
    let objects = s3.list_objects_v2().bucket(bucket).send().await.expect("the bucket is kept for the third bake");
    let keys: Vec<_> = objects.contents().iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys, ["third/package.tar.gz"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_on_the_builder_is_reported_with_its_log() {
    let account = Account::start(&[]).await;
    for (key, cluster) in OTHERS {
        account.launch(key, cluster).await;
    }
    let before = account.inventory().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path(), "echo 'libc.so.6: version GLIBC_2.99 not found' >&2; exit 1");
    let why = account.run(&bake(&program, &[])).failed();
    assert!(why.contains("the installation on the builder failed") && why.contains("GLIBC_2.99 not found"), "{why}");
    assert_unchanged(&account, &before).await;
    assert_eq!(image_count(&account).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_builder_that_does_not_report_fails_the_bake_with_its_output() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let slow = program(folder.path(), "sleep 3");
    let why = account.run(&bake(&slow, &["--timeout", "1s"])).failed();
    assert!(why.contains("no report from the builder") && why.contains("route to the internet"), "{why}");
    assert!(why.contains("console output"), "{why}");
    assert_unchanged(&account, &before).await;

    let shuts_down = program(folder.path(), "touch \"$MACHINE/off\"; sleep 1000");
    let why = account.run(&bake(&shuts_down, &[])).failed();
    assert!(why.contains("has not reported"), "{why}");
    assert_unchanged(&account, &before).await;
    assert_eq!(image_count(&account).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_launch_or_a_missing_program_is_reported_and_leaves_nothing_behind() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path(), "exit 0");
    let faults = serde_json::json!([{ "action": "RunInstances", "code": "UnauthorizedOperation", "status": 403 }]);
    account.ec2.post_control("/faults", faults).await;
    let why = account.run(&bake(&program, &[])).failed();
    assert!(why.contains("UnauthorizedOperation") && why.contains("permissions of your credentials"), "{why}");
    assert_unchanged(&account, &before).await;

    let why = account.run(&bake("/nowhere", &[])).failed();
    assert!(why.contains("/nowhere"), "{why}");
    assert_unchanged(&account, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_bake_cleans_up() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path(), "sleep 1000");
    let start = |program: &str| {
        let command = account.command(&bake(program, &[])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        command.expect("the program starts")
    };
    let interrupt = async |command: std::process::Child| {
        kill(Pid::from_raw(command.id() as i32), Signal::SIGINT).expect("the process is our child");
        let why = command_output(command.wait_with_output().expect("the bake ends")).failed();
        assert!(why.contains("interrupted"), "{why}");
        assert_unchanged(&account, &before).await;
        assert_eq!(image_count(&account).await, 0);
    };
    let command = start(&program);
    wait_until("there is a builder", TIMEOUT, async || account.states().await == ["running"]).await;
    interrupt(command).await;

    // The same while the image is being created.
    account.ec2.post_control("/delays", serde_json::json!({ "image": 1000 })).await;
    let command = start(&account::program(folder.path(), "exit 0"));
    wait_until("there is an image", TIMEOUT, async || image_count(&account).await == 1).await;
    interrupt(command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_finds_the_leftovers_of_a_killed_bake() {
    let account = Account::start(&[]).await;
    let before = account.inventory().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let program = program(folder.path(), "sleep 1000");
    let command = account.command(&bake(&program, &[])).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut command = command.expect("the program starts");
    wait_until("there is a builder", TIMEOUT, async || account.states().await == ["running"]).await;
    command.kill().expect("the process is our child");
    command.wait().expect("the process is our child");
    let left = account.run(&["aws", "down"]).done();
    assert!(left.contains("bucket rollcall-bake-000000000000-us-east-1 with 1 object,"), "{left}");
    let rules = account
        .s3()
        .await
        .get_bucket_lifecycle_configuration()
        .bucket("rollcall-bake-000000000000-us-east-1")
        .send()
        .await;
    let days = rules.expect("rules").rules()[0].expiration().and_then(|expiration| expiration.days());
    assert_eq!(days, Some(1), "S3 deletes the objects after a day");
    assert_eq!(account.run(&["aws", "down", "--delete-data"]).done(), "nothing is left: the cluster costs nothing\n");
    assert_unchanged(&account, &before).await;
}

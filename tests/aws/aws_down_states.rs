//! `rollcall aws down` takes a cluster down whatever state its stack is in, does not fight controllers, and ends in time.

use std::{sync::Arc, time::Duration};

use aws_sdk_cloudformation::types::ChangeSetType;
use aws_sdk_ec2::{
    Client,
    types::{Filter, Instance, ResourceType, Tag, TagSpecification},
};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::support::{
    account::{Account, CommandOutput},
    inventory::Changes,
};

/// Longest time for a command that could go on for ever.
const TIMEOUT: Duration = Duration::from_secs(120);
const UP: [&str; 6] = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678"];
const TWO: [&str; 4] = ["--web-nodes", "2", "--certificate", "arn:aws:acm:us-east-1:000000000000:certificate/12345678"];
const DOWN: [&str; 5] = ["aws", "down", "--delete-data", "--timeout", "30s"];

async fn cloudformation(account: &Account) -> aws_sdk_cloudformation::Client {
    aws_sdk_cloudformation::Client::new(&rollcall_testing::emulators::sdk(&account.ministack.url).await)
}

async fn state(account: &Account) -> String {
    let stacks = cloudformation(account).await.describe_stacks().stack_name("rollcall").send().await.expect("a list");
    stacks.stacks()[0].stack_status().expect("a state").as_str().to_owned()
}

/// Makes calls to EC2 fail: each action, the number of its calls that succeed first, and of those that then fail.
async fn fail(account: &Account, faults: &[(&str, usize, usize)]) {
    let faults = faults.iter().map(|(action, after, times)| {
        json!({ "action": action, "code": "InternalError", "status": 400, "after": after, "times": times })
    });
    account.ec2.post_control("/faults", faults.collect()).await;
}

/// Runs a command in a thread of its own.
async fn run(account: &Arc<Account>, arguments: &'static [&'static str]) -> CommandOutput {
    let account = account.clone();
    let command = tokio::task::spawn_blocking(move || account.run(arguments));
    tokio::time::timeout(TIMEOUT, command).await.expect("it goes on and on").expect("no panic")
}

/// Returns the instances of which a tag has that value, and that are not terminated.
async fn alive(ec2: &Client, tag: &str, value: &str) -> Vec<Instance> {
    let tagged = Filter::builder().name(format!("tag:{tag}")).values(value).build();
    let running = Filter::builder().name("instance-state-name");
    let running = running.set_values(Some(["pending", "running"].map(str::to_owned).into())).build();
    let found = ec2.describe_instances().filters(tagged).filters(running).send().await.expect("a list");
    found.reservations.unwrap_or_default().into_iter().flat_map(|r| r.instances.unwrap_or_default()).collect()
}

/// Launches a worker of the cluster, in its security group if there is one.
async fn launch(ec2: &Client) {
    let groups = ec2.describe_security_groups().send().await.expect("a list").security_groups.unwrap_or_default();
    let group = groups.into_iter().find(|group| group.group_name() == Some("rollcall-WorkerGroup"));
    let tag = Tag::builder().key("rollcall:cluster").value("rollcall").build();
    let tags = TagSpecification::builder().resource_type(ResourceType::Instance).tags(tag).build();
    let launch = ec2.run_instances().image_id("ami-12345678").min_count(1).max_count(1).tag_specifications(tags);
    // The group may be deleted at the same time.
    let _ = launch.set_security_group_ids(group.and_then(|g| g.group_id).map(|id| vec![id])).send().await;
}

/// Does what a controller does: launches a worker whenever there is none, for as long as a web node of that name runs, or for ever.
async fn control(account: &Account, node: Option<&'static str>) -> JoinHandle<()> {
    let ec2 = account.ec2().await;
    launch(&ec2).await;
    tokio::spawn(async move {
        loop {
            let runs = match node {
                Some(name) => !alive(&ec2, "Name", name).await.is_empty(),
                None => true,
            };
            if runs && alive(&ec2, "rollcall:cluster", "rollcall").await.is_empty() {
                launch(&ec2).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

/// Makes an update fail, and its rollback too.
async fn fail_update(account: &Arc<Account>) {
    // The update creates a version of both launch templates; so does the rollback.
    fail(account, &[("RunInstances", 0, 99), ("CreateLaunchTemplateVersion", 2, 99)]).await;
    let why = run(account, &["aws", "up", "--worker-type", "c7i.xlarge", "--image", "ami-12345678"]).await.failed();
    assert!(why.contains("UPDATE_ROLLBACK_FAILED"), "{why}");
    fail(account, &[]).await;
    assert_eq!(state(account).await, "UPDATE_ROLLBACK_FAILED");
    let why = run(account, &UP).await.failed();
    assert!(why.contains("cannot be changed in the state UPDATE_ROLLBACK_FAILED"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_behind_a_load_balancer_go_before_the_workers_that_they_would_launch_again() {
    let account = Arc::new(Account::start(&[("LOAD_BALANCER_SPEED", "20")]).await);
    let before = account.inventory().await;
    let up: &'static [&'static str] = Box::leak([&UP[..], &TWO[..]].concat().into_boxed_slice());
    run(&account, up).await.done();
    fail_update(&account).await;
    let controller = control(&account, Some("rollcall-web")).await;
    run(&account, &DOWN).await.done();
    controller.abort();
    assert_eq!(account.changes(&before).await, Changes::default(), "only what was there before");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_goes_whatever_state_its_stack_is_in() {
    let account = Arc::new(Account::start(&[]).await);
    let before = account.inventory().await;
    let down = async || {
        run(&account, &DOWN).await.done();
        assert_eq!(account.changes(&before).await, Changes::default(), "only what was there before");
    };
    // A change set that was never executed: `up` creates the stack.
    let review = async || {
        let client = cloudformation(&account).await;
        let change = client.create_change_set().stack_name("rollcall").change_set_name("first");
        let template = r#"{"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}"#;
        let made = change.change_set_type(ChangeSetType::Create).template_body(template).send().await;
        made.expect("a change set");
        assert_eq!(state(&account).await, "REVIEW_IN_PROGRESS");
    };
    review().await;
    down().await;
    review().await;
    run(&account, &UP).await.done();
    fail_update(&account).await;
    down().await;

    fail(&account, &[("RunInstances", 0, 1)]).await;
    run(&account, &UP).await.failed();
    assert_eq!(state(&account).await, "ROLLBACK_COMPLETE");
    down().await;

    fail(&account, &[("RunInstances", 0, 1), ("DeleteSecurityGroup", 0, 2)]).await;
    run(&account, &UP).await.failed();
    assert_eq!(state(&account).await, "ROLLBACK_FAILED");
    // What the rollback could not delete is not the stack's any more.
    run(&account, &DOWN).await.done();
    let ec2 = account.ec2().await;
    let groups = ec2.describe_security_groups().send().await.expect("a list").security_groups.unwrap_or_default();
    for group in groups.iter().filter(|group| group.group_name().is_some_and(|name| name.starts_with("rollcall-W"))) {
        ec2.delete_security_group().group_id(group.group_id().expect("an id")).send().await.expect("deleted");
    }
    assert_eq!(account.changes(&before).await, Changes::default());

    // One attempt fails, and the next one of the same command succeeds.
    run(&account, &UP).await.done();
    fail(&account, &[("DeleteSecurityGroup", 0, 1)]).await;
    down().await;

    // If it goes on, the command says what is left, and what to do. Once the cause is gone, it succeeds.
    run(&account, &UP).await.done();
    fail(&account, &[("DeleteSecurityGroup", 0, 99)]).await;
    let why = run(&account, &DOWN).await.failed();
    assert!(
        why.contains("cannot be deleted") && why.contains("WorkerGroup: ") && why.contains("FORCE_DELETE_STACK"),
        "{why}"
    );
    assert_eq!(state(&account).await, "DELETE_FAILED");
    fail(&account, &[]).await;
    down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn down_ends_in_time_if_something_launches_workers_again_and_again() {
    let account = Arc::new(Account::start(&[]).await);
    run(&account, &UP).await.done();
    // So that the next worker is launched before the one before is terminated.
    account.ec2.post_control("/delays", json!({ "shutting-down": 3 })).await;
    let controller = control(&account, None).await;
    let why = run(&account, &["aws", "down", "--timeout", "8s"]).await.failed();
    assert!(
        why.contains("launched again") && why.contains("i-") && why.contains("controller of the cluster rollcall"),
        "{why}"
    );
    controller.abort();
    let _ = controller.await;
    account.ec2.post_control("/delays", json!({ "shutting-down": 0.3 })).await;
    run(&account, &DOWN).await.done();
}

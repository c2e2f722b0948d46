//! `rollcall aws verify` passes on a stack that `rollcall aws up` has made, leaves nothing behind, and names each fault.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Duration,
};

use aws_sdk_ec2::types::{
    IpPermission, IpRange, LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateSpecification, RequestLaunchTemplateData, ResourceType,
    SecurityGroup, Tag, TagSpecification, builders::RequestLaunchTemplateDataBuilder,
};
use aws_sdk_s3::types::{BucketLifecycleConfiguration, LifecycleExpiration};
use aws_sdk_sqs::types::QueueAttributeName;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::cloud::{Queues as _, aws::SqsQueues};
use rollcall_testing::uploads::{MACRON, form, photo};
use rollcall_testing::wait_until;
use serde_json::{Value, json};

use crate::aws_web_nodes::web_nodes;
use crate::support::{
    account::{Account, CommandOutput, command_output, program},
    iam::Statement,
    inventory::Changes,
};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const STATE: &str = "rollcall-state-000000000000-us-east-1";
/// Uploads that `verify` sends at once.
const BURST: u64 = 4;
const UP: [&str; 4] = ["aws", "up", "--allow-from", "10.0.0.0/8"];
/// Settings of all machines: as quick as the emulators allow.
const MACHINES: [(&str, &str); 9] = [
    ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
    ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
    ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
    ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
    ("ROLLCALL__FLEET__BILLING_MINIMUM", "0s"),
    ("ROLLCALL__WORKER__THREADS", "1"),
    ("ROLLCALL__WORKER__IDLE_STOP", "2s"),
    ("ROLLCALL__HTTP__DEADLINE", "5s"),
    ("ROLLCALL__LOG__LEVEL", "warn"),
];

/// Returns the command with these arguments for the cluster's web node.
pub fn verify(account: &Account, more: &[&str]) -> Command {
    let url = account.web("");
    account.command(&[&["aws", "verify", "--url", &url], more].concat())
}

/// Runs the command, and returns its checks.
pub fn checks(account: &Account, more: &[&str]) -> Vec<Value> {
    checks_of(verify(account, &[&["--json"], more].concat()))
}

/// Runs a command that prints checks as JSON, and returns them.
pub fn checks_of(mut command: Command) -> Vec<Value> {
    let CommandOutput { success, out, err, .. } = command_output(command.output().expect("the program starts"));
    let checks: Vec<Value> = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    assert_eq!(success, checks.iter().all(|check| check["verdict"] != "failed"), "the exit code agrees: {checks:#?}");
    checks
}

/// Starts a cluster whose image is baked, and whose machines have the roles of the template. As the documentation says, it
/// has a token.
pub async fn cluster(more: &[(&str, &str)]) -> Account {
    let account = Account::start_with_roles(&[&MACHINES[..], more].concat()).await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    account.run(&UP).done();
    let token = account
        .command(&["token", "create", "--role", "admin"])
        .env("ROLLCALL__CLOUD__KIND", "aws")
        .env("ROLLCALL__STORE__STATE", STATE)
        .output();
    command_output(token.expect("the program starts")).done();
    account
}

/// Checks that the check `name` has failed, that what was seen contains `seen`, and that there is a remedy.
pub fn assert_fault(checks: &[Value], name: &str, seen: &str) {
    let check = checks.iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name}: {checks:#?}"));
    assert_eq!(check["verdict"], "failed", "{check:#}");
    assert!(check["seen"].as_str().expect("text").contains(seen), "{seen}: {check:#}");
    assert!(check["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{check:#}");
}

/// Lists the objects of all buckets, except for the audit log, from which nothing can be removed, and what a controller
/// writes again and again.
pub async fn objects(account: &Account) -> BTreeSet<String> {
    let (s3, mut all) = (account.s3().await, BTreeSet::new());
    for bucket in account.buckets().await {
        let list = s3.list_objects_v2().bucket(&bucket).send().await.expect("a list");
        let keys = list.contents().iter().filter_map(|object| object.key());
        let kept = ["audit/", "controller-"];
        all.extend(
            keys.filter(|key| !kept.iter().any(|kept| key.starts_with(kept))).map(|key| format!("{bucket}/{key}")),
        );
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_up_passes_and_nothing_is_left_behind() {
    let account = cluster(&[]).await;
    let (inventory, before) = (account.inventory().await, objects(&account).await);
    let lines = command_output(verify(&account, &["--budget", "0.5"]).output().expect("the program starts")).done();
    println!("{lines}");
    for check in [
        "budget",
        "stack rollcall",
        "earlier runs",
        "queue rollcall-listener.fifo",
        "bucket rollcall-state-000000000000-us-east-1",
        "launch template",
        "network",
        "versions",
        "web node",
        "without a token",
        "with an upload token",
        "burst from zero",
        "small upload",
        "large upload",
        "damaged upload",
        "stop",
        "warm start",
        "cap",
        "worker role",
        "web role",
        "cost",
        "nothing left",
    ] {
        let line = lines.lines().find(|line| line.starts_with(&format!("ok       {check}: expected ")));
        assert!(line.is_some_and(|line| line.contains("; seen: ")), "{check}: {lines}");
    }
    assert_eq!(account.changes(&inventory).await, Changes::default());
    assert_eq!(objects(&account).await, before);
    let iam = account.iam.as_ref().expect("roles are enforced");
    let denied = iam.denied().len();
    assert!(denied > 20, "the probes were denied their calls: {denied}");
}

/// Returns the number of jobs in the queue.
async fn queued(account: &Account) -> u64 {
    let queues = SqsQueues::new(account.sqs().await, Duration::ZERO, "rollcall");
    let requests = queues.open("rollcall-listener.fifo").await.expect("the queue");
    requests.depth().await.expect("a depth").total()
}

/// Returns the states of the probes.
pub async fn probes(account: &Account) -> Vec<String> {
    let machines = account.ec2.get_control("/instances").await;
    let machines = machines.as_array().expect("a list").iter();
    let probes = machines.filter(|machine| machine["tags"]["rollcall:verify"] == "rollcall");
    probes.map(|probe| probe["state"].as_str().expect("text").to_owned()).collect()
}

/// Returns whether a worker is booting.
pub async fn a_worker_boots(account: &Account) -> bool {
    let machines = account.ec2.get_control("/instances").await;
    let boots = |machine: &Value| machine["state"] == "pending" && machine["tags"]["rollcall:cluster"] == "rollcall";
    machines.as_array().expect("a list").iter().any(boots)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interruption_leaves_nothing_behind() {
    let account = cluster(&[]).await;
    let (inventory, before) = (account.inventory().await, objects(&account).await);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut command = verify(&account, &["--budget", "0.5"]);
        let mut command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        // Once all uploads are accepted: of one that is not, the command waits for a result that never comes.
        account.ec2.post_control("/delays", json!({ "pending": 1000 })).await;
        wait_until("a worker boots, and all jobs wait for it", TIMEOUT, async || {
            assert!(command.try_wait().expect("our child").is_none(), "it has ended");
            a_worker_boots(&account).await && queued(&account).await == BURST
        })
        .await;
        kill(Pid::from_raw(command.id() as i32), signal).expect("the process is our child");
        account.ec2.post_control("/delays", json!({ "pending": 0.3 })).await;
        let output = command_output(command.wait_with_output().expect("it ends"));
        assert!(!output.success && output.out.contains("interrupted"), "{signal}: {}", output.out);
        assert!(output.out.contains("ok       nothing left"), "{signal}: {}", output.out);
        assert_eq!(account.changes(&inventory).await, Changes::default(), "{signal}");
        assert_eq!(objects(&account).await, before, "{signal}");
    }

    // The same while probes make their calls, who report while they shut down.
    let images = account.ec2().await.describe_images().owners("self").send().await.expect("a list");
    let installed = account.disk(images.images()[0].image_id().expect("an id")).join("opt/rollcall");
    let real = std::path::absolute(rollcall_testing::program()).expect("a path");
    let slow = format!("case \"$*\" in *attempt*) sleep 3 ;; esac\nexec {} \"$@\"", real.display());
    std::fs::remove_file(installed.join("rollcall")).expect("it may be the file of other machines too");
    std::fs::rename(program(&installed, &slow), installed.join("rollcall")).expect("renamed");
    account.ec2.post_control("/delays", json!({ "shutting-down": 6 })).await;
    let mut command = verify(&account, &["--budget", "0.5"]);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let run = |states: &[String]| states.iter().filter(|state| *state == "running").count() == 2;
    wait_until("both probes run", TIMEOUT, async || run(&probes(&account).await)).await;
    kill(Pid::from_raw(command.id() as i32), Signal::SIGINT).expect("the process is our child");
    let output = command_output(command.wait_with_output().expect("it ends"));
    assert!(output.out.contains("ok       nothing left"), "{}", output.out);
    assert_eq!(account.changes(&inventory).await, Changes::default());
    assert_eq!(objects(&account).await, before);
}

/// Makes a version of the workers' launch template that is the first one with a change, and one of the web nodes' that states it.
async fn change_template(
    account: &Account,
    change: impl FnOnce(RequestLaunchTemplateDataBuilder) -> RequestLaunchTemplateDataBuilder,
) {
    let ec2 = account.ec2().await;
    let versions = ec2.describe_launch_template_versions().launch_template_name("rollcall-worker").versions("1");
    let first = versions.send().await.expect("a list").launch_template_versions.expect("versions").remove(0);
    let first = first.launch_template_data.expect("what is launched");
    let profile = first.iam_instance_profile().and_then(|profile| profile.name()).expect("a profile");
    let profile = LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(profile).build();
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder();
    let metadata = metadata.http_tokens(LaunchTemplateHttpTokensState::Required).build();
    let same = RequestLaunchTemplateData::builder()
        .set_image_id(first.image_id)
        .set_user_data(first.user_data)
        .set_security_group_ids(first.security_group_ids)
        .set_instance_initiated_shutdown_behavior(first.instance_initiated_shutdown_behavior)
        .iam_instance_profile(profile)
        .metadata_options(metadata);
    let version = ec2.create_launch_template_version().launch_template_name("rollcall-worker");
    let version = version.launch_template_data(change(same).build()).send().await.expect("a version");
    let number = version.launch_template_version().and_then(|version| version.version_number()).expect("a number");
    let versions = ec2.describe_launch_template_versions().launch_template_name("rollcall-web").versions("$Latest");
    let web = versions.send().await.expect("a list").launch_template_versions.expect("versions").remove(0);
    let script = web.launch_template_data.and_then(|data| data.user_data).expect("a script");
    let script = String::from_utf8(BASE64_STANDARD.decode(script).expect("base64")).expect("text");
    let stated = |number: &str| format!("ROLLCALL__AWS__LAUNCH_TEMPLATE_VERSION={number}\n");
    assert!(script.contains(&stated("1")), "{script}");
    let script = script.replace(&stated("1"), &stated(&number.to_string()));
    let data = RequestLaunchTemplateData::builder().user_data(BASE64_STANDARD.encode(script)).build();
    let version = ec2.create_launch_template_version().launch_template_name("rollcall-web");
    version.launch_template_data(data).send().await.expect("a version");
    // The version of a web node that runs would count.
    for node in web_nodes(account).await {
        ec2.terminate_instances().instance_ids(node).send().await.expect("terminated");
    }
    wait_until("no web node is left", TIMEOUT, async || {
        let machines = account.ec2.get_control("/instances").await;
        let mut machines = machines.as_array().expect("a list").iter();
        machines.all(|machine| machine["tags"]["Name"] != "rollcall-web" || machine["state"] == "terminated")
    })
    .await;
}

/// Sets an attribute of a queue of the stack.
async fn set(account: &Account, queue: &str, attribute: QueueAttributeName, value: &str) {
    let sqs = account.sqs().await;
    let url = sqs.get_queue_url().queue_name(queue).send().await.expect("a queue").queue_url.expect("a URL");
    sqs.set_queue_attributes().queue_url(url).attributes(attribute, value).send().await.expect("it is set");
}

/// Changes resources of a stack behind CloudFormation's back.
async fn seed(account: &Account) {
    set(account, "rollcall-listener.fifo", QueueAttributeName::RedrivePolicy, "").await;
    set(account, "rollcall-dead.fifo", QueueAttributeName::MessageRetentionPeriod, "3600").await;
    set(account, "rollcall-speaker", QueueAttributeName::SqsManagedSseEnabled, "false").await;
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"sqs:*","Resource":"*"}]}"#;
    set(account, "rollcall-status", QueueAttributeName::Policy, policy).await;

    let s3 = account.s3().await;
    let bucket = |purpose: &str| format!("rollcall-{purpose}-000000000000-us-east-1");
    s3.delete_bucket_lifecycle().bucket(bucket("input")).send().await.expect("no rules");
    s3.delete_public_access_block().bucket(bucket("output")).send().await.expect("no block");
    let mut rules = s3.get_bucket_lifecycle_configuration().bucket(bucket("state")).send().await.expect("rules").rules;
    let audit = rules.iter_mut().flatten().find(|rule| rule.id() == Some("audit")).expect("a rule for the audit log");
    audit.expiration = Some(LifecycleExpiration::builder().days(1).build());
    let rules = BucketLifecycleConfiguration::builder().set_rules(rules).build().expect("rules");
    let put = s3.put_bucket_lifecycle_configuration().bucket(bucket("state")).lifecycle_configuration(rules);
    put.send().await.expect("other rules");

    let ec2 = account.ec2().await;
    // A worker of the first version goes on.
    let template = LaunchTemplateSpecification::builder().launch_template_name("rollcall-worker").version("1").build();
    let tag = Tag::builder().key("rollcall:cluster").value("rollcall").build();
    let tags = TagSpecification::builder().resource_type(ResourceType::Instance).tags(tag).build();
    let launch = ec2.run_instances().min_count(1).max_count(1).launch_template(template).tag_specifications(tags);
    launch.send().await.expect("launched");
    let optional = LaunchTemplateInstanceMetadataOptionsRequest::builder();
    let optional = optional.http_tokens(LaunchTemplateHttpTokensState::Optional).build();
    change_template(account, |data| data.metadata_options(optional).image_id("ami-11111111")).await;

    let groups = ec2.describe_security_groups().send().await.expect("a list");
    let name = |group: &&SecurityGroup| group.group_name().is_some_and(|name| name.contains("WorkerGroup"));
    let group = groups.security_groups().iter().find(name).and_then(|group| group.group_id()).expect("a group");
    let everybody = IpRange::builder().cidr_ip("0.0.0.0/0").build();
    let ssh = IpPermission::builder().ip_protocol("tcp").from_port(22).to_port(22).ip_ranges(everybody).build();
    ec2.authorize_security_group_ingress().group_id(group).ip_permissions(ssh).send().await.expect("a rule");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_the_stack_is_named() {
    // Nothing is installed on this image, so that no machine comes up.
    let account = Account::start_with_roles(&[]).await;
    account.run(&[&UP[..], &["--image", "ami-12345678"]].concat()).done();
    let untouched = account.inventory().await;
    let checks_of = |budget| checks(&account, &["--budget", budget, "--timeout", "2s"]);
    let refused = checks_of("0.001");
    assert_fault(&refused, "budget", "$0.0");
    assert_eq!(refused.len(), 1, "nothing was done");

    seed(&account).await;
    let inventory = account.inventory().await;
    assert_eq!(inventory.difference(&untouched).count(), 2, "a worker with its disk");
    let all = checks_of("0.5");
    for (name, seen) in [
        ("queue rollcall-listener.fifo", "no dead-letter queue"),
        ("queue rollcall-dead.fifo", "MessageRetentionPeriod is 3600, not 1209600"),
        ("queue rollcall-speaker", "SqsManagedSseEnabled is false"),
        ("queue rollcall-status", "its policy lets everybody use it"),
        ("bucket rollcall-input-000000000000-us-east-1", "objects are deleted never, not after 30 days"),
        ("bucket rollcall-output-000000000000-us-east-1", "block of public access is incomplete: BlockPublicAcls"),
        ("bucket rollcall-state-000000000000-us-east-1", "audit/ are deleted after 1 days, not after 365 days"),
        ("launch template", "IMDSv1"),
        ("launch template", "the image is ami-11111111, not that of the stack"),
        ("versions", "is of version 1"),
        ("network", "workers can be reached: tcp 22 from 0.0.0.0/0"),
        ("web node", "error sending request"),
        ("worker role", "has not reported in time"),
        ("web role", "has not reported in time"),
    ] {
        assert_fault(&all, name, seen);
    }
    let failed = all.iter().filter(|check| check["verdict"] == "failed").count();
    assert_eq!(failed, 13, "nothing else: {all:#?}");
    assert_eq!(account.changes(&inventory).await, Changes::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_too_much_or_too_little_is_named() {
    // The workers boot, and answer, before the command gives up.
    let account = cluster(&[("ROLLCALL__HTTP__DEADLINE", "60s")]).await;
    let inventory = account.inventory().await;
    let iam = account.iam.as_ref().expect("roles are enforced");
    let wide = json!({ "Sid": "Wide", "Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "*" });
    iam.change_worker(|statements| {
        statements.iter_mut().for_each(|statement| statement.actions.retain(|action| action != "s3:PutObject"));
        statements.push(Statement::of(&wide));
    });
    let all = checks(&account, &["--budget", "0.5", "--timeout", "20s"]);
    for call in ["gallery/", "recognitions/"] {
        assert_fault(&all, "worker role", &format!("it may delete rollcall-state-000000000000-us-east-1/{call}"));
    }
    // Replies are sent before results are stored, so a client alone does not see that nothing is stored.
    assert_fault(&all, "burst from zero", "4 of 4 answered (no face), but not stored");
    assert_eq!(account.changes(&inventory).await, Changes::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_do_not_start_and_uploads_without_a_token_are_named() {
    let account = cluster(&[("ROLLCALL__HTTP__ANONYMOUS", "upload")]).await;
    // Machines that boot from now on have a setting that does not exist.
    let images = account.ec2().await.describe_images().owners("self").send().await.expect("a list");
    let settings = account.disk(images.images()[0].image_id().expect("an id")).join("etc/rollcall/aws.toml");
    let wrong = std::fs::read_to_string(&settings).expect("settings") + "\n[worker]\nthreadz = 1\n";
    std::fs::remove_file(&settings).expect("it may be the file of other machines too");
    std::fs::write(settings, wrong).expect("written");
    let upload = reqwest::Client::new().post(account.web("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = upload.multipart(form(&[("a.jpg", &photo(MACRON))])).send().await.expect("a response");
    assert_eq!(accepted.status(), 202);
    let reader = account.run_on_cluster(STATE, &["token", "create", "--role", "read"]).done();
    let fleet = reqwest::Client::new().get(account.web("/v1/fleet")).bearer_auth(reader.trim());
    wait_until("boots have failed", TIMEOUT, async || {
        let fleet = fleet.try_clone().expect("no body").send().await.expect("a response");
        fleet.text().await.expect("text").contains("boots in a row failed")
    })
    .await;
    let all = checks(&account, &["--budget", "0.5", "--timeout", "10s"]);
    assert_fault(&all, "without a token", "POST /v1/recognitions: HTTP 202");
    assert_fault(&all, "worker role", "worker.threadz");
    assert_fault(&all, "burst from zero", "4 of 4 not answered: HTTP 504");
    assert_fault(&all, "burst from zero", "boots in a row failed");
    assert_fault(&all, "nothing left", "is still queued");
}

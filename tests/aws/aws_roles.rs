//! The roles of deploy/cloudformation.yaml grant what a run uses, and nothing else: every call of a web node, a controller and
//! a worker is decided by them, and without any one of the rights some call would be refused.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{
    account::program,
    aws_cluster::{Cluster, DISK_KEY, Node, TemplateVersion},
    iam::{
        ACCOUNT, Context, Iam, NODE_KEY, REGION, Right, Role, Statement, WORKER_TEMPLATE, check, decide, published,
        right, stack,
    },
};
use rollcall_testing::uploads::{self, KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;

const TIMEOUT: Duration = Duration::from_secs(120);
const KMS_KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab";

async fn upload(node: &Node, n: usize) {
    let (url, photo) = (node.url("/"), photo(MACRON));
    let uploads = (0..n).map(|_| async { assert_eq!(post(&url, form(&[("x.jpg", &photo)])).await.status(), 200) });
    futures_util::future::join_all(uploads).await;
}

async fn get(node: &Node, path: &str) -> serde_json::Value {
    reqwest::get(node.url(path)).await.expect("a response").json().await.expect("JSON")
}

/// Sends every kind of request that makes a node or a worker call AWS.
async fn call_every_endpoint(web: &Node) {
    let client = reqwest::Client::new();
    // A photo that is too large for a message, and one whose client does not wait.
    let large = uploads::encode(noise(), image::ImageFormat::Png);
    assert!(large.len() > 200 << 10);
    let response = post(&web.url("/v1/recognitions"), form(&[("large.png", &large)])).await;
    assert_eq!(response.status(), 200);
    let photo = photo(MACRON);
    let response = client.post(web.url("/v1/recognitions")).header("Prefer", "respond-async");
    let response = response.multipart(form(&[("later.jpg", &photo)])).send().await.expect("a response");
    assert_eq!(response.status(), 202);
    let path = response.headers()["location"].to_str().expect("text").to_owned();
    wait_until("it is done", TIMEOUT, async || get(web, &path).await["status"] == "done").await;
    let deleted = client.delete(web.url(&path)).send().await.expect("a response");
    assert_eq!(deleted.status(), 204);
    // A person is added and removed.
    let person = reqwest::multipart::Form::new().text("name", "Ada").part("photos", uploads::file("a.jpg", &photo));
    assert_eq!(post(&web.url("/v1/people"), person).await.status(), 201);
    let form_of_large =
        reqwest::multipart::Form::new().text("name", "Ada").part("photos", uploads::file("a.png", &large));
    assert_eq!(post(&web.url("/v1/people"), form_of_large).await.status(), 422);
    assert_eq!(client.delete(web.url("/v1/people/Ada")).send().await.expect("a response").status(), 204);
    // A person is erased, while there is the result of a job that has failed: it may have left a label.
    let cut_off = post(&web.url("/v1/recognitions"), form(&[("cut-off.png", &large[..150 << 10])])).await;
    let problem: serde_json::Value = cut_off.json().await.expect("JSON");
    let path = format!("/v1/recognitions/{}", problem["id"].as_str().unwrap_or_else(|| panic!("{problem}")));
    wait_until("it has failed", TIMEOUT, async || get(web, &path).await["status"] == "failed").await;
    // A gallery with a name of its own.
    let person = reqwest::multipart::Form::new().text("name", "Ada").part("photos", uploads::file("a.jpg", &photo));
    assert_eq!(post(&web.url("/v1/people?gallery=staff"), person).await.status(), 201);
    let named = post(&web.url("/v1/recognitions?gallery=staff"), form(&[("x.jpg", &photo)])).await;
    assert_eq!(named.json::<serde_json::Value>().await.expect("JSON")["label"], "Ada");
    let path = web.url("/v1/people/Emmanuel_Macron?results=true");
    assert_eq!(client.delete(path).send().await.expect("a response").status(), 200);
}

/// Deletes results right after the response, until a worker has had to delete what it stored later.
async fn delete_early(cluster: &Cluster, web: &Node) {
    let (client, photo) = (reqwest::Client::new(), photo(MACRON));
    let upload_and_delete = async |_| {
        let response = post(&web.url("/v1/recognitions"), form(&[("x.jpg", &photo)])).await;
        let body: serde_json::Value = response.json().await.expect("JSON");
        let url = web.url(&format!("/v1/recognitions/{}", body["id"].as_str().expect("an id")));
        assert_eq!(client.delete(url).send().await.expect("a response").status(), 204);
    };
    wait_until("a deletion overtakes a storing", TIMEOUT, async || {
        // Workers store the results of many jobs later than that of one.
        futures_util::future::join_all((0..16).map(upload_and_delete)).await;
        cluster.worker_calls.counts().keys().any(|call| call.starts_with("DeleteObject output"))
    })
    .await;
}

/// Starts a node as a stack does, on one of the instances: it tells CloudFormation that it is ready.
async fn signal(cluster: &Cluster) {
    let instances = cluster.ec2.get_control("/instances").await;
    let metadata = instances[0]["metadata"].as_str().expect("an instance").to_owned();
    let settings = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.as_str()),
        ("AWS_ENDPOINT_URL_CLOUDFORMATION", &cluster.node_calls.url),
        ("ROLLCALL__AWS__STACK_RESOURCE", "Web"),
    ];
    let node = cluster.node_with("web", &settings).await;
    wait_until("it says that it is ready", TIMEOUT, async || {
        is_used(&cluster.iam, Role::Node, "cloudformation:SignalResource")
    })
    .await;
    node.end();
}

/// Returns an image that no format compresses well.
fn noise() -> image::DynamicImage {
    let mut x = 1u32;
    let image = image::RgbImage::from_fn(400, 300, |_, _| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([(x >> 24) as u8, (x >> 16) as u8, (x >> 8) as u8])
    });
    image.into()
}

/// Forwards the journal of a machine as its unit does, with the credentials of a node and of a worker.
async fn forward_logs(cluster: &Cluster) {
    let logs = aws_sdk_cloudwatchlogs::Client::new(&rollcall_testing::emulators::sdk(&cluster.ministack.url).await);
    logs.create_log_group().log_group_name("/rollcall/rollcall").send().await.expect("a log group");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stub = std::path::absolute("tests/emulators/journalctl.py").expect("a path");
    let script = program(folder.path(), &format!("exec python3 {} \"$@\"", stub.display()));
    std::fs::rename(script, folder.path().join("journalctl")).expect("renamed");
    #[expect(clippy::disallowed_methods, reason = "CloudWatch rejects events that are old")]
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let entry = serde_json::json!({"__CURSOR": "s=1", "__REALTIME_TIMESTAMP": format!("{seconds}000000"),
        "_SYSTEMD_UNIT": "rollcall-serve.service", "MESSAGE": "ready"});
    std::fs::write(folder.path().join("journal"), format!("{entry}\n")).expect("written");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").expect("a path"));
    let instances = cluster.ec2.get_control("/instances").await;
    let metadata = instances[0]["metadata"].as_str().expect("an instance");
    for role in [Role::Node, Role::Worker] {
        let cursor = folder.path().join(format!("{role:?}"));
        let mut command = cluster.command(&["aws", "forward-logs", "--cursor", cursor.to_str().expect("text")]);
        command.env("PATH", &path).env("ROLLCALL_JOURNAL", folder.path().join("journal"));
        command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata);
        match role {
            Role::Node => {
                command.env("AWS_ACCESS_KEY_ID", NODE_KEY);
                command.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", &cluster.node_calls.url);
            }
            Role::Worker => {
                command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
                command.env("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", &cluster.worker_calls.url);
                let streams = logs.delete_log_group().log_group_name("/rollcall/rollcall").send().await;
                streams.expect("deleted");
                logs.create_log_group().log_group_name("/rollcall/rollcall").send().await.expect("a log group");
            }
        }
        let mut forwarder = command.spawn().expect("the program starts");
        wait_until("it has sent the log", TIMEOUT, async || cursor.exists()).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(forwarder.id() as i32), nix::sys::signal::Signal::SIGTERM)
            .expect("it is ours");
        assert!(forwarder.wait().expect("it is ours").success());
    }
}

/// Returns the settings of a node with a controller, as a stack makes it.
fn with_threads(version: &TemplateVersion) -> Vec<(&str, &str)> {
    [&version.settings()[..], &[("ROLLCALL__WORKER__THREADS", "auto")]].concat()
}

fn is_used(iam: &Iam, role: Role, action: &str) -> bool {
    iam.used().iter().any(|(by, right)| *by == role && right.action == action)
}

/// Runs a cluster with on-demand instances, whose objects are encrypted with a key of KMS, from zero to zero. Returns the
/// rights that it has used.
async fn run_on_demand() -> BTreeSet<(Role, Right)> {
    let cluster = Cluster::start(&[
        ("ROLLCALL__AWS__KMS_KEY", KMS_KEY),
        // With the types, it reads how many cores they have; without, also which type the template has.
        ("ROLLCALL__AWS__INSTANCE_TYPES", "c7i.large"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "10s"),
    ])
    .await;
    let version = cluster.template_version().await;
    cluster.enroll(KNOWN);
    let controller = cluster.node_with("controller", &with_threads(&version)).await;
    let web = cluster.node("web").await;
    upload(&web, 8).await;
    // The work must arrive before the sweep.
    wait_until("an idle instance stops and is started again", TIMEOUT, async || {
        if cluster.count(&["stopped"]).await > 0 {
            upload(&web, 8).await;
        }
        is_used(&cluster.iam, Role::Node, "ec2:StartInstances")
    })
    .await;
    wait_until("the web node shows the fleet", TIMEOUT, async || {
        let fleet: serde_json::Value = get(&web, "/v1/fleet").await;
        fleet["instances"].as_array().is_some_and(|instances| !instances.is_empty())
    })
    .await;
    call_every_endpoint(&web).await;
    signal(&cluster).await;
    forward_logs(&cluster).await;
    delete_early(&cluster, &web).await;
    wait_until("the sweep terminates every instance", TIMEOUT, async || {
        cluster.count(&["pending", "running", "stopping", "stopped"]).await == 0
    })
    .await;
    web.end();
    controller.end();
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
    cluster.iam.used()
}

/// Runs a cluster with a spot instance, which terminates itself.
async fn run_on_spot() -> BTreeSet<(Role, Right)> {
    let cluster = Cluster::start(&[("ROLLCALL__AWS__SPOT", "true"), ("ROLLCALL__FLEET__MAX_INSTANCES", "1")]).await;
    let version = cluster.template_version().await;
    cluster.enroll(KNOWN);
    let node = cluster.node_with("serve", &with_threads(&version)).await;
    upload(&node, 2).await;
    wait_until("the idle instance terminates itself", TIMEOUT, async || {
        is_used(&cluster.iam, Role::Worker, "ec2:TerminateInstances")
    })
    .await;
    node.end();
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
    cluster.iam.used()
}

/// Returns each action on each resource of a statement as a statement of its own.
fn single_rights(statement: &Statement) -> Vec<Statement> {
    let pairs = statement.actions.iter().flat_map(|action| statement.resources.iter().map(move |on| (action, on)));
    let single = |(action, on): (&String, &String)| Statement {
        actions: vec![action.clone()],
        resources: vec![on.clone()],
        ..statement.clone()
    };
    pairs.map(single).collect()
}

/// Returns the statements of a role without one of their rights, for each of them, and the name of that right.
fn without_each(statements: &[Statement]) -> Vec<(String, Vec<Statement>)> {
    let all: Vec<Statement> = statements.iter().flat_map(single_rights).collect();
    let without = |n: usize| {
        let name = format!("{}: {} on {}", all[n].sid, all[n].actions[0], all[n].resources[0]);
        (name, all.iter().enumerate().filter(|(other, _)| *other != n).map(|(_, s)| s.clone()).collect())
    };
    (0..all.len()).map(without).collect()
}

fn log_stream(cluster: &str) -> String {
    format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/rollcall/{cluster}:log-stream:i-1")
}

/// Calls that somebody would make who has taken over a machine.
fn attacks() -> Vec<(Role, Right)> {
    let state = format!("arn:aws:s3:::rollcall-state-{ACCOUNT}");
    let object = |action: &str, key: &str| right(action, &format!("{state}/{key}"), Context::new());
    let instance = |id: &str| format!("arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{id}");
    let of_worker = |action: &str, id: &str, more: &[(&str, &str)]| {
        let context = [
            ("ec2:InstanceID", id.to_owned()),
            ("ec2:SourceInstanceARN", instance("i-1")),
            ("aws:ResourceTag/rollcall:cluster", "rollcall".to_owned()),
        ];
        let more = more.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let context = context.into_iter().chain(more).map(|(key, value)| (key.to_owned(), vec![value]));
        published(right(action, &instance(id), context.collect()))
    };
    let mut attacks = vec![
        // Workers end and tag themselves only, and make no instance a member of the fleet.
        (Role::Worker, of_worker("ec2:TerminateInstances", "i-2", &[])),
        (Role::Worker, of_worker("ec2:StopInstances", "i-2", &[])),
        (Role::Worker, of_worker("ec2:CreateTags", "i-2", &[("aws:TagKeys", "rollcall:ready")])),
        (Role::Worker, of_worker("ec2:CreateTags", "i-1", &[("aws:TagKeys", "rollcall:cluster")])),
        (Role::Worker, object("s3:PutObject", "controller-lease")),
        // No machine writes to another cluster's logs.
        (Role::Worker, right("logs:PutLogEvents", &log_stream("rollcall-2"), Context::new())),
        (Role::Node, right("logs:PutLogEvents", &log_stream("other"), Context::new())),
        // Nodes signal for their own stack.
        (Role::Node, right("cloudformation:SignalResource", &stack("other"), Context::new())),
    ];
    // Nodes launch workers only: from their template, with its image and the cluster's tag.
    let launched = |resource: &str, of_template: bool| {
        let template =
            ("ec2:LaunchTemplate", format!("arn:aws:ec2:{REGION}:{ACCOUNT}:launch-template/{WORKER_TEMPLATE}"));
        let tag = ("aws:RequestTag/rollcall:cluster", "rollcall".to_owned());
        let context = of_template.then_some(template).into_iter().chain([tag]);
        let context = context.map(|(key, value)| (key.to_owned(), vec![value])).collect();
        (Role::Node, published(right("ec2:RunInstances", &format!("arn:aws:ec2:{REGION}:{resource}"), context)))
    };
    attacks.extend([
        launched(":image/ami-of-somebody", true),
        launched(":image/ami-of-somebody", false),
        launched(&format!("{ACCOUNT}:instance/new"), false),
        launched(&format!("{ACCOUNT}:volume/new"), false),
        (Role::Worker, launched(&format!("{ACCOUNT}:instance/new"), true).1),
    ]);
    // Nobody makes tokens, and the audit log stays.
    for role in [Role::Node, Role::Worker] {
        for (action, key) in [
            ("s3:PutObject", "access/tokens/x"),
            ("s3:DeleteObject", "access/tokens/x"),
            ("s3:DeleteObject", "audit/2026-01-01/x"),
        ] {
            attacks.push((role, object(action, key)));
        }
    }
    // Workers, which decode images of strangers, change no gallery, and read nothing that they do not need.
    for (action, key) in [
        ("s3:PutObject", "gallery/current"),
        ("s3:DeleteObject", "gallery/parts/x"),
        ("s3:PutObject", "galleries/staff/current"),
        ("s3:GetObject", "access/tokens/x"),
        ("s3:GetObject", "private/pseudonyms"),
        ("s3:GetObject", "audit/2026-01-01/x"),
        ("s3:DeleteObject", "recognitions/x.json"),
    ] {
        attacks.push((Role::Worker, object(action, key)));
    }
    attacks
}

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_grant_what_a_run_uses_and_nothing_else() {
    let (on_demand, spot) = tokio::join!(run_on_demand(), run_on_spot());
    let mut used: BTreeSet<(Role, Right)> = on_demand.into_iter().chain(spot).collect();
    // A worker probes every minute whether the cloud can be reached, and extends the visibility of a long job's message; a
    // web node returns replies to the queue while its router is being rebuilt, and a controller looks for dead letters every
    // minute, and replies to who waits for them (`aws_dead_letters.rs`). This run is too short for that.
    let queue = |name: &str| format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}");
    for (role, action, name) in [
        (Role::Worker, "sqs:GetQueueAttributes", "rollcall-listener.fifo"),
        (Role::Worker, "sqs:ChangeMessageVisibility", "rollcall-listener.fifo"),
        (Role::Node, "sqs:ChangeMessageVisibility", "rollcall-speaker"),
        (Role::Node, "sqs:SendMessage", "rollcall-speaker"),
        (Role::Node, "sqs:ChangeMessageVisibility", "rollcall-speaker_2"),
        (Role::Node, "sqs:SendMessage", "rollcall-speaker_2"),
        (Role::Node, "sqs:ReceiveMessage", "rollcall-dead.fifo"),
        (Role::Node, "sqs:DeleteMessage", "rollcall-dead.fifo"),
        (Role::Node, "sqs:ChangeMessageVisibility", "rollcall-dead.fifo"),
    ] {
        used.insert((role, right(action, &queue(name), Context::new())));
    }
    // Web nodes of the release before have queues with such names, and use them while they are replaced (`aws_upgrade.rs`).
    let of_earlier_node = queue("rollcall-speaker-01kb8w3t5n6q7r8s9v0x1y2z3a");
    let by_node = [
        "GetQueueUrl",
        "CreateQueue",
        "TagQueue",
        "DeleteQueue",
        "ReceiveMessage",
        "DeleteMessage",
        "ChangeMessageVisibility",
        "SendMessage",
    ];
    let by_node = by_node.map(|action| (Role::Node, action));
    for (role, action) in by_node.into_iter().chain(["GetQueueUrl", "SendMessage"].map(|a| (Role::Worker, a))) {
        used.insert((role, right(&format!("sqs:{action}"), &of_earlier_node, Context::new())));
    }
    // The SSM Agent of the image makes these calls: "Add Session Manager permissions to an existing IAM role" in the user guide
    // of AWS Systems Manager.
    for role in [Role::Node, Role::Worker] {
        for action in [
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
        ] {
            used.insert((role, right(action, "*", Context::new())));
        }
    }
    // S3 tells that an object is missing only to those who may list its bucket. Others are denied, as the proxies do here if
    // it happens.
    let read = used.iter().filter(|(_, right)| right.action == "s3:GetObject");
    let lists: Vec<_> = read
        .map(|(role, read)| {
            let bucket = read.resource.split('/').next().unwrap_or_default();
            (*role, right("s3:ListBucket", bucket, Context::new()))
        })
        .collect();
    used.extend(lists);
    let template =
        crate::support::iam::Template::read(&[("Cluster", "rollcall"), ("KmsKey", KMS_KEY), ("DiskKeys", DISK_KEY)]);
    let mut unneeded = Vec::new();
    for (role, name) in [(Role::Node, "WebRole"), (Role::Worker, "WorkerRole")] {
        let statements = template.role(name);
        statements.iter().for_each(check);
        for (of, attack) in attacks().iter().filter(|(of, _)| *of == role) {
            assert!(decide(&statements, attack).is_err(), "{of:?} may do this: {attack:?}");
        }
        let allows = |statements: &[Statement], rights: &BTreeSet<(Role, Right)>| {
            rights.iter().filter(|(of, _)| *of == role).all(|(_, right)| decide(statements, right).is_ok())
        };
        assert!(allows(&statements, &used), "the run was allowed");
        for (right, rest) in without_each(&statements) {
            let denial = statements.iter().any(|s| !s.allows && right.starts_with(&format!("{}: ", s.sid)));
            if !denial && allows(&rest, &used) {
                unneeded.push(format!("{role:?}: {right} is granted, and not used"));
            }
        }
    }
    assert!(unneeded.is_empty(), "{}", unneeded.join("\n"));
}

//! The roles of deploy/cloudformation.yaml grant what a run uses, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::support::aws_cluster::{Cluster, Node, TEMPLATE};
use rollcall_testing::uploads::{self, KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;

const TIMEOUT: Duration = Duration::from_secs(120);
const BUCKETS: [&str; 3] = ["input", "output", "state"];

/// Returns the actions that the template grants between two of its lines, those of S3 with their bucket.
fn granted_permissions(from: &str, to: &str) -> BTreeSet<String> {
    let template = std::fs::read_to_string("deploy/cloudformation.yaml").expect("the template");
    let role = template.split_once(from).expect("the role").1.split_once(to).expect("its end").0;
    assert!(!role.contains("ManagedPolicyArns"), "{from}: a managed policy grants more than is used");
    let policies = role.split_once("Policies:").expect("policies").1;
    let statements = policies.split("- Sid:").skip(1);
    assert_eq!(statements.clone().count(), policies.matches("Effect:").count(), "{from}: a statement without a name");
    let (denying, granting): (Vec<&str>, Vec<&str>) = statements.partition(|s| s.contains("Effect: Deny"));
    // Whoever takes over a machine must not make tokens.
    for action in ["s3:PutObject", "s3:DeleteObject"] {
        let denied = |statement: &&str| statement.contains(action) && statement.contains("/access/*");
        assert!(denying.iter().any(denied), "{from}: {action} of tokens is not denied");
    }
    // What a machine has done remains in the audit log.
    let keeps = |statement: &&str| statement.contains("s3:DeleteObject") && statement.contains("/audit/*");
    assert!(denying.iter().any(keeps), "{from}: the deletion of the audit log is not denied");
    let mut granted = BTreeSet::new();
    for statement in granting {
        let (actions, resource) = statement.split_once("Resource:").expect("what it is granted on");
        let actions = actions.split_once("Action:").expect("what is granted").1;
        let words = actions.split(|c: char| !c.is_ascii_alphanumeric() && c != ':' && c != '*');
        for action in words.filter(|word| word.contains(':')) {
            let everything = resource.contains("\"*\"");
            assert!(!everything || action.starts_with("ec2:Describe"), "{from}: {action} on everything");
            let bound = ["ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances", "ec2:CreateTags"];
            assert!(
                !(bound.contains(&action) || action == "iam:PassRole") || resource.contains("Condition:"),
                "{from}: {action} without a condition"
            );
            if action.starts_with("s3:") {
                let mut buckets = BUCKETS.iter().filter(|bucket| resource.contains(&format!("-{bucket}-"))).peekable();
                assert!(buckets.peek().is_some(), "{from}: {action} on {resource}");
                granted.extend(buckets.map(|bucket| format!("{action} {bucket}")));
            } else {
                granted.insert(action.to_owned());
            }
        }
    }
    granted
}

/// Returns the permissions that the recorded calls to SQS and S3 need: a batch needs the permission of the single call,
/// creating a queue with tags also needs `TagQueue`, and the permission for `ListObjectsV2` is called `ListBucket`.
fn required_by_calls(calls: &BTreeMap<String, usize>) -> BTreeSet<String> {
    let mut permissions = BTreeSet::new();
    for call in calls.keys() {
        match call.split_once(' ') {
            None => permissions.insert(format!("sqs:{}", call.trim_end_matches("Batch"))),
            Some((action, bucket)) => {
                let action = if action == "ListObjectsV2" { "ListBucket" } else { action };
                let kind = bucket.split('-').next().expect("a name");
                permissions.insert(format!("s3:{action} {kind}"))
            }
        };
    }
    if permissions.contains("sqs:CreateQueue") {
        permissions.insert("sqs:TagQueue".into());
    }
    // S3 reports a missing object as denied, unless the caller may list its bucket.
    let read: Vec<String> =
        permissions.iter().filter_map(|r| r.strip_prefix("s3:GetObject ").map(str::to_owned)).collect();
    permissions.extend(read.iter().map(|bucket| format!("s3:ListBucket {bucket}")));
    permissions
}

/// Returns the permissions that the calls to EC2 made with the access key `key` need.
async fn required_by_ec2_calls(cluster: &Cluster, key: &str) -> BTreeSet<String> {
    let callers = cluster.ec2.get_control("/callers").await;
    let actions = callers.as_object().expect("an object").iter();
    let theirs = actions.filter(|(_, keys)| keys.as_array().is_some_and(|keys| keys.iter().any(|k| k == key)));
    let mut permissions: BTreeSet<String> = theirs.map(|(action, _)| format!("ec2:{action}")).collect();
    if permissions.contains("ec2:RunInstances") {
        permissions.insert("ec2:CreateTags".into()); // launches are tagged
        permissions.insert("iam:PassRole".into()); // and have the workers' role
    }
    permissions
}

async fn upload(node: &Node, n: usize) {
    let (url, photo) = (node.url("/"), photo(MACRON));
    let uploads = (0..n).map(|_| async { assert_eq!(post(&url, form(&[("x.jpg", &photo)])).await.status(), 200) });
    futures_util::future::join_all(uploads).await;
}

/// Returns what is granted but not used, and what is used but not granted.
fn differences(role: &str, granted: &BTreeSet<String>, used: &BTreeSet<String>) -> Vec<String> {
    let unused = granted.difference(used).map(|right| format!("{role}: {right} is granted and not used"));
    let missing = used.difference(granted).map(|right| format!("{role}: {right} is used and not granted"));
    unused.chain(missing).collect()
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
    let path = web.url("/v1/people/Emmanuel_Macron?results=true");
    assert_eq!(client.delete(path).send().await.expect("a response").status(), 200);
}

/// Deletes results right after the response, until a worker has had to delete what it stored later.
async fn delete_early(cluster: &Cluster, web: &Node) {
    let (client, photo) = (reqwest::Client::new(), photo(MACRON));
    wait_until("a deletion overtakes a storing", TIMEOUT, async || {
        let response = post(&web.url("/v1/recognitions"), form(&[("x.jpg", &photo)])).await;
        let body: serde_json::Value = response.json().await.expect("JSON");
        let url = web.url(&format!("/v1/recognitions/{}", body["id"].as_str().expect("an id")));
        assert_eq!(client.delete(url).send().await.expect("a response").status(), 204);
        cluster.worker_calls.counts().keys().any(|call| call.starts_with("DeleteObject output"))
    })
    .await;
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

#[tokio::test(flavor = "multi_thread")]
async fn the_roles_grant_what_a_run_uses_and_nothing_else() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__AWS__LAUNCH_TEMPLATE", TEMPLATE),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__FLEET__SWEEP_EVERY", "10s"),
    ])
    .await;
    cluster.change_launch_template().await;
    cluster.enroll(KNOWN);
    cluster.node_calls.clear(); // those calls were an operator's, with permissions of their own
    let controller = cluster.node("controller").await;
    let web = cluster.node("web").await;
    upload(&web, 8).await;
    // The work must arrive before the sweep.
    wait_until("an idle instance stops and is started again", TIMEOUT, async || {
        if cluster.count(&["stopped"]).await > 0 {
            upload(&web, 8).await;
        }
        required_by_ec2_calls(&cluster, "test").await.contains("ec2:StartInstances")
    })
    .await;
    wait_until("the web node shows the fleet", TIMEOUT, async || {
        let fleet: serde_json::Value = get(&web, "/v1/fleet").await;
        fleet["instances"].as_array().is_some_and(|instances| !instances.is_empty())
    })
    .await;
    call_every_endpoint(&web).await;
    delete_early(&cluster, &web).await;
    wait_until("the sweep terminates every instance", TIMEOUT, async || {
        cluster.count(&["pending", "running", "stopping", "stopped"]).await == 0
    })
    .await;
    web.end();
    controller.end();

    let mut worker = required_by_calls(&cluster.worker_calls.counts());
    worker.extend(required_by_ec2_calls(&cluster, "ASIAEMULATOR").await);
    // A spot instance terminates itself; this run has none.
    worker.insert("ec2:TerminateInstances".into());
    // A worker probes every minute whether the cloud can be reached; it may have ended before its first probe.
    worker.insert("sqs:GetQueueAttributes".into());
    // A worker extends the visibility of a long job's message; this run has no long job.
    worker.insert("sqs:ChangeMessageVisibility".into());
    let of_worker = differences("worker", &granted_permissions("\n  WorkerRole:", "\n  WorkerProfile:"), &worker);

    let mut node = required_by_calls(&cluster.node_calls.counts());
    node.extend(required_by_ec2_calls(&cluster, "test").await);
    // A web node returns replies to the queue while its router is being rebuilt; this run rebuilds none.
    node.insert("sqs:ChangeMessageVisibility".into());
    let of_web = differences("web", &granted_permissions("\n  WebRole:", "\n  WebProfile:"), &node);
    assert_eq!([of_worker, of_web].concat(), Vec::<String>::new());
}

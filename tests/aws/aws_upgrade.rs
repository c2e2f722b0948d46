//! A new version of the launch template reaches a cluster at work: no job is lost, no instance of the earlier version is
//! left, and there are never more instances than allowed. If the update is rolled back, so are the workers.

use std::time::Duration;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::cloud::{Queues as _, aws::SqsQueues};
use rollcall_testing::uploads::{self, KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::{
    aws_cluster::{Cluster, Node, TEMPLATE},
    fleet_watch::FleetWatch,
    iam::Statement,
};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const CLIENTS: usize = 6;

/// Returns the ids of the instances that have not ended.
async fn alive(cluster: &Cluster) -> Vec<String> {
    cluster.versions().await.into_keys().collect()
}

/// Number of jobs that are accepted before and during a change of version (`ROLLCALL_UPGRADE_JOBS`).
fn jobs() -> usize {
    std::env::var("ROLLCALL_UPGRADE_JOBS").map_or(150, |jobs| jobs.parse().expect("a number"))
}

/// Sends uploads whose response is not waited for, and returns their paths.
async fn send(web: String, jobs: usize) -> Vec<String> {
    let client = reqwest::Client::new();
    let photo = photo(MACRON);
    let mut paths = Vec::with_capacity(jobs);
    for n in 0..jobs {
        let request = client.post(format!("{web}v1/recognitions")).header("Prefer", "respond-async");
        let response = request.multipart(form(&[(&format!("{n}.jpg"), &photo)])).send().await.expect("a response");
        assert_eq!(response.status(), 202);
        paths.push(response.headers()["location"].to_str().expect("text").trim_start_matches('/').to_owned());
    }
    paths
}

/// Returns the rank in the controllers' lease: the version of the launch template that the active controller launches.
async fn leading_version(cluster: &Cluster) -> Option<u64> {
    let lease = cluster.s3().await.get_object().bucket(cluster.bucket("state")).key("controller-lease").send().await;
    let bytes = lease.ok()?.body.collect().await.ok()?.into_bytes();
    let lease: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    lease["rank"].as_u64().filter(|_| lease["released"] == false)
}

async fn wait_for_leader(cluster: &Cluster, version: u64) {
    wait_until("the controller of that version leads", TIMEOUT, async || {
        leading_version(cluster).await == Some(version)
    })
    .await;
}

/// Replaces a controller and the workers under load, as an update of the stack does.
async fn upgrade(is_of_earlier_release: bool) {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "3"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__KEEP_STOPPED", "3"),
        ("ROLLCALL__WORKER__IDLE_STOP", "60s"),
    ])
    .await;
    let first = cluster.template_version().await;
    cluster.enroll(KNOWN);
    let web = cluster.node("web").await;
    let controller = if is_of_earlier_release {
        // It launches the default version, and may read which one that is.
        cluster.iam.change_node(|statements| statements.push(Statement::of(&read_templates())));
        let default = [("ROLLCALL__AWS__LAUNCH_TEMPLATE", TEMPLATE), ("ROLLCALL__AWS__LAUNCH_TEMPLATE_VERSION", "")];
        cluster.node_with("controller", &default).await
    } else {
        cluster.node_with("controller", &first.settings()).await
    };
    let watch = FleetWatch::start(&cluster).await;

    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(send(web.url("/"), jobs().div_ceil(CLIENTS)))).collect();
    wait_until("the fleet is at its cap", TIMEOUT, async || cluster.count(&["running"]).await == 3).await;
    let before = alive(&cluster).await;

    let second = cluster.add_template_version().await;
    if is_of_earlier_release {
        // CloudFormation changes the role before it makes a web node.
        cluster.iam.change_node(|statements| {
            statements.pop();
        });
    }
    // The next one serves before the one before is terminated.
    let next = cluster.node_with("controller", &second.settings()).await;
    wait_for_leader(&cluster, 2).await;
    controller.end();
    let mut paths = Vec::new();
    for client in clients {
        paths.extend(client.await.expect("every upload was accepted"));
    }
    wait_until("no instance of the earlier version is left", TIMEOUT, async || {
        let now = cluster.versions().await;
        !now.is_empty() && now.values().all(|version| *version == second.number)
    })
    .await;
    let now = alive(&cluster).await;
    assert!(before.iter().all(|id| !now.contains(id)), "{before:?} were replaced by {now:?}");
    // Each is done, in the end by the new ones alone.
    for path in &paths {
        wait_until("the job is done", TIMEOUT, async || {
            let result = reqwest::get(web.url(&format!("/{path}"))).await.expect("a response");
            let result: serde_json::Value = result.json().await.expect("JSON");
            assert_ne!(result["status"], "failed", "{result}");
            result["status"] == "done" && result["label"] == "Emmanuel_Macron"
        })
        .await;
    }
    println!("{} of {} jobs were done", paths.len(), jobs().div_ceil(CLIENTS) * CLIENTS);
    upload(&web).await;
    let (most, _) = watch.end().await;
    assert!(most <= 3, "{most} instances");
    next.end();
}

/// The right that web nodes of earlier releases have in addition.
fn read_templates() -> serde_json::Value {
    serde_json::json!({ "Sid": "Earlier", "Effect": "Allow", "Action": "ec2:DescribeLaunchTemplates", "Resource": "*" })
}

async fn upload(web: &Node) {
    let response = post(&web.url("/"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(uploads::status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_all_workers_under_load_and_no_job_is_lost() {
    upgrade(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_launches_the_default_version_is_replaced_with_its_workers_and_no_job_is_lost() {
    upgrade(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_version_leads_and_its_workers_are_replaced_only_after_a_rollback() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__BOOT_TIMEOUT", "30s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
    ])
    .await;
    let first = cluster.template_version().await;
    cluster.enroll(KNOWN);
    let web = cluster.node("web").await;
    let _old = cluster.node_with("controller", &first.settings()).await;
    wait_for_leader(&cluster, 1).await;
    upload(&web).await;
    assert!(cluster.versions().await.values().all(|version| version == "1"));

    // The controller of the next version leads at once, although the other one is well.
    let second = cluster.add_template_version().await;
    let new = cluster.node_with("controller", &second.settings()).await;
    wait_for_leader(&cluster, 2).await;
    let none_of = async |version: &str| cluster.versions().await.values().all(|found| found != version);
    wait_until("the earlier worker is gone", TIMEOUT, async || none_of("1").await).await;
    upload(&web).await;
    let workers = cluster.versions().await;
    assert!(!workers.is_empty() && none_of("1").await, "{workers:?}");

    // It dies and is back: nothing is replaced forth and back.
    new.kill9();
    wait_for_leader(&cluster, 1).await;
    upload(&web).await;
    let new = cluster.node_with("controller", &second.settings()).await;
    wait_for_leader(&cluster, 2).await;
    upload(&web).await;
    assert_eq!(cluster.versions().await, workers);

    // The update is rolled back.
    new.end();
    wait_until("the later worker is gone", TIMEOUT, async || none_of("2").await).await;
    assert_eq!(leading_version(&cluster).await, Some(1));
    upload(&web).await;
    assert!(none_of("2").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_of_an_earlier_version_is_terminated_instead_of_started() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__KEEP_STOPPED", "1"),
    ])
    .await;
    let first = cluster.template_version().await;
    cluster.enroll(KNOWN);
    let node = cluster.node_with("serve", &first.settings()).await;
    upload(&node).await;
    wait_until("the instance has stopped", TIMEOUT, async || cluster.count(&["stopped"]).await == 1).await;
    let before = alive(&cluster).await;
    node.end();
    let second = cluster.add_template_version().await;
    let node = cluster.node_with("serve", &second.settings()).await;
    upload(&node).await;
    wait_until("the earlier one is gone", TIMEOUT, async || !alive(&cluster).await.contains(&before[0])).await;
}

/// Name of the reply queue of a web node of the release before, if it has one of its own.
const EARLIER_QUEUE: &str = "rollcall-speaker-01kb8w3t5n6q7r8s9v0x1y2z3a";

/// Gives a role the rights of the release before: those to queues whose names begin with the reply queue's and a hyphen.
fn as_of_earlier_release(statements: &mut Vec<Statement>) {
    statements.retain(|statement| statement.allows || statement.actions.iter().all(|a| !a.starts_with("sqs:")));
    for resource in statements.iter_mut().flat_map(|statement| &mut statement.resources) {
        if resource.ends_with("-speaker_*") {
            *resource = resource.replace("-speaker_*", "-speaker-*");
        }
    }
}

/// Sends a signal to the processes of all workers.
async fn signal_workers(cluster: &Cluster, signal: Signal) {
    let instances = cluster.ec2.get_control("/instances").await;
    let workers = instances.as_array().expect("a list").iter().filter_map(|instance| instance["pid"].as_i64());
    let workers: Vec<_> = workers.map(|pid| kill(Pid::from_raw(pid as i32), signal)).collect();
    assert!(!workers.is_empty() && workers.iter().all(Result::is_ok), "{workers:?}");
}

/// Jobs that no worker has begun: those whose response is waited for, and those whose is not.
struct WaitingJobs {
    responses: Vec<JoinHandle<(u16, String)>>,
    paths: Vec<String>,
}

impl WaitingJobs {
    /// Stops the processes of the workers and uploads photos to the node.
    async fn start(cluster: &Cluster, node: &Node) -> Self {
        const JOBS: usize = 4;
        let queues = SqsQueues::new(cluster.sqs().await, Duration::ZERO, "rollcall");
        let requests = queues.open("rollcall-listener.fifo").await.expect("the queue");
        let queued = async || requests.depth().await.expect("a depth").total();
        wait_until("the jobs before are done", TIMEOUT, async || queued().await == 0).await;
        signal_workers(cluster, Signal::SIGSTOP).await;
        let paths = send(node.url("/"), JOBS).await;
        let responses = (0..JOBS).map(|_| {
            let url = node.url("/");
            let photo = form(&[("a.jpg", &photo(MACRON))]);
            tokio::spawn(async move { uploads::status_and_text(post(&url, photo).await).await })
        });
        let responses = responses.collect();
        wait_until("all wait", TIMEOUT, async || queued().await == 2 * JOBS as u64).await;
        Self { responses, paths }
    }

    async fn assert_done(self, node: &Node) {
        for response in self.responses {
            assert_eq!(response.await.expect("no panic"), (200, "Emmanuel_Macron".to_owned()));
        }
        for path in &self.paths {
            wait_until_done(node, path).await;
        }
    }
}

/// Waits until a job is done.
async fn wait_until_done(node: &Node, path: &str) {
    wait_until("the job is done", TIMEOUT, async || {
        let result = reqwest::get(node.url(&format!("/{path}"))).await.expect("a response");
        let result: Value = result.json().await.expect("JSON");
        assert_ne!(result["status"], "failed", "{result}");
        result["status"] == "done"
    })
    .await;
}

/// Awaits that jobs are done, and fails as soon as a role denies a call: who waits for a reply that may not be sent gets the result
/// nevertheless, but only at the deadline.
async fn done_without_denial(cluster: &Cluster, done: impl Future<Output = ()>) {
    let denied = wait_until("a call is denied", 2 * TIMEOUT, async || !cluster.iam.denied().is_empty());
    tokio::select! {
        () = done => {}
        () = denied => panic!("{:?}", cluster.iam.denied()),
    }
}

async fn assert_no_dead_letter(cluster: &Cluster, node: &Node) {
    let letters: Value =
        reqwest::get(node.url("/v1/dead-letters")).await.expect("a response").json().await.expect("JSON");
    assert_eq!(letters["dead_letters"], serde_json::json!([]));
    let queues = SqsQueues::new(cluster.sqs().await, Duration::ZERO, "rollcall");
    let queue = queues.open("rollcall-dead.fifo").await.expect("the queue");
    assert_eq!(queue.depth().await.expect("a depth").total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_node_of_the_release_before_are_answered_while_the_roles_change_and_are_done_after_it() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__QUEUE__VISIBILITY", "5s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
    ])
    .await;
    let (mut node_role, mut worker_role) = (Vec::new(), Vec::new());
    cluster.iam.change_node(|role| node_role.clone_from(role));
    cluster.iam.change_worker(|role| worker_role.clone_from(role));
    cluster.iam.change_node(as_of_earlier_release);
    cluster.iam.change_worker(as_of_earlier_release);
    let first = cluster.template_version().await;
    cluster.enroll(KNOWN);
    let queue = ("ROLLCALL__QUEUE__SPEAKER", EARLIER_QUEUE);
    let old = cluster.node_with("serve", &[&first.settings()[..], &[queue]].concat()).await;
    upload(&old).await;

    // Jobs of both kinds wait for a worker that knows the queue when CloudFormation changes the roles.
    let jobs = WaitingJobs::start(&cluster, &old).await;
    cluster.iam.change_node(|role| *role = node_role);
    cluster.iam.change_worker(|role| *role = worker_role);
    signal_workers(&cluster, Signal::SIGCONT).await;
    done_without_denial(&cluster, jobs.assert_done(&old)).await;

    // Others wait for a worker that does not know it yet.
    let jobs = WaitingJobs::start(&cluster, &old).await;
    signal_workers(&cluster, Signal::SIGKILL).await;
    let second = cluster.add_template_version().await;
    let next = cluster.node_with("serve", &second.settings()).await;
    done_without_denial(&cluster, jobs.assert_done(&next)).await;

    // The node goes with jobs that it has accepted, and its successor deletes its queue.
    let paths = send(old.url("/"), 4).await;
    old.kill9();
    for path in &paths {
        wait_until_done(&next, path).await;
    }
    upload(&next).await;
    wait_until("the queue of the node is gone", TIMEOUT, async || {
        let queues = cluster.sqs().await.list_queues().queue_name_prefix(EARLIER_QUEUE).send().await.expect("a list");
        queues.queue_urls.is_none_or(|urls| urls.is_empty())
    })
    .await;
    assert_no_dead_letter(&cluster, &next).await;
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_although_its_worker_may_not_reply() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__HTTP__DEADLINE", "10s"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
    ])
    .await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    // It takes longer than the deadline, maybe, until the worker has started.
    wait_until_done(&node, &send(node.url("/"), 1).await[0]).await;
    cluster.iam.change_worker(|role| role.retain(|statement| statement.sid != "SendReplies"));
    let paths = send(node.url("/"), 2).await;
    // At its deadline, the node looks for the result. It finds it if the job is done by then.
    let url = node.url("/");
    let found = async || uploads::status_and_text(post(&url, form(&[("a.jpg", &photo(MACRON))])).await).await;
    let expected = (200, "Emmanuel_Macron".to_owned());
    wait_until("the result is found at the deadline", TIMEOUT, async || found().await == expected).await;
    for path in &paths {
        wait_until_done(&node, path).await;
    }
    assert!(cluster.iam.denied().len() >= 3, "no reply was sent");
    assert_no_dead_letter(&cluster, &node).await;
}

//! A new version of the launch template reaches a cluster at work: no job is lost, no instance of the earlier version is
//! left, and there are never more instances than allowed.

use std::time::Duration;

use rollcall_testing::uploads::{self, KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;

use crate::support::{
    aws_cluster::{Cluster, TEMPLATE},
    fleet_watch::FleetWatch,
};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const ALIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];
const CLIENTS: usize = 6;

/// Returns the ids of the instances that are not terminated.
async fn alive(cluster: &Cluster) -> Vec<String> {
    let all = cluster.instances().await.into_iter();
    all.filter(|(_, state)| ALIVE.contains(&state.as_str())).map(|(id, _)| id).collect()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_all_workers_under_load_and_no_job_is_lost() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__AWS__LAUNCH_TEMPLATE", TEMPLATE),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "3"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__KEEP_STOPPED", "3"),
        ("ROLLCALL__WORKER__IDLE_STOP", "60s"),
    ])
    .await;
    cluster.change_launch_template().await;
    cluster.enroll(KNOWN);
    let (web, controller) = (cluster.node("web").await, cluster.node("controller").await);
    let watch = FleetWatch::start(&cluster).await;

    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(send(web.url("/"), jobs() / CLIENTS))).collect();
    wait_until("the fleet is at its cap", TIMEOUT, async || cluster.count(&["running"]).await == 3).await;
    let before = alive(&cluster).await;

    cluster.change_launch_template().await;
    // The node of the controller is replaced as well; a running one learns of the version within half a minute.
    controller.end();
    let _controller = cluster.node("controller").await;
    let mut paths = Vec::new();
    for client in clients {
        paths.extend(client.await.expect("every upload was accepted"));
    }
    wait_until("no instance of the earlier version is left", TIMEOUT, async || {
        let now = alive(&cluster).await;
        !now.is_empty() && before.iter().all(|id| !now.contains(id))
    })
    .await;
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
    println!("{} of {} jobs were done", paths.len(), jobs() / CLIENTS * CLIENTS);
    let response = post(&web.url("/"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(uploads::status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()));
    let (most, _) = watch.end().await;
    assert!(most <= 3, "{most} instances");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_of_an_earlier_version_is_terminated_instead_of_started() {
    let cluster = Cluster::start(&[
        ("ROLLCALL__AWS__LAUNCH_TEMPLATE", TEMPLATE),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__KEEP_STOPPED", "1"),
    ])
    .await;
    cluster.change_launch_template().await;
    cluster.enroll(KNOWN);
    let node = cluster.node("serve").await;
    let upload = async |url: &str| {
        let response = post(url, form(&[("a.jpg", &photo(MACRON))])).await;
        assert_eq!(uploads::status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()));
    };
    upload(&node.url("/")).await;
    wait_until("the instance has stopped", TIMEOUT, async || cluster.count(&["stopped"]).await == 1).await;
    let before = alive(&cluster).await;
    node.end();
    cluster.change_launch_template().await;
    let node = cluster.node("serve").await;
    upload(&node.url("/")).await;
    wait_until("the earlier one is gone", TIMEOUT, async || !alive(&cluster).await.contains(&before[0])).await;
}

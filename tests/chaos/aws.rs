//! Rollcall on emulated AWS: two web nodes, two controllers, and a worker behind each of EC2's instances.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use rand::{RngExt as _, rngs::ChaCha12Rng};
use rollcall_testing::uploads::KNOWN;
use rollcall_testing::{Emulator, free_port, wait_until};
use serde_json::json;

use super::{
    support::{
        aws_cluster::{Cluster, Node},
        fleet_watch::FleetWatch,
        wire,
    },
    world::{Access, Kept, World, add_object, find},
};

const CAP: usize = 3;
/// Longest time in which what was accepted is done at the end.
const FINISH: Duration = Duration::from_secs(600);

/// The cluster and its nodes.
pub struct Aws {
    cluster: Cluster,
    /// In front of SQS and S3.
    wire: Emulator,
    access: Access,
    web: Vec<Option<Node>>,
    controllers: Vec<Option<Node>>,
    watch: Option<FleetWatch>,
    violations: Vec<String>,
}

impl Aws {
    pub async fn start() -> Self {
        let cap = CAP.to_string();
        let (ministack, port) = (Emulator::ministack().await, free_port());
        let wire = wire::faults(&ministack.url).await;
        let settings = [
            ("ROLLCALL__HTTP__DEADLINE", "15s"),
            ("ROLLCALL__FLEET__MAX_INSTANCES", &cap),
            ("ROLLCALL__FLEET__LEASE", "5s"),
            ("ROLLCALL__QUEUE__VISIBILITY", "10s"),
            ("ROLLCALL__QUEUE__MAX_RECEIVES", "1000"),
            ("ROLLCALL__WORKER__IDLE_STOP", "10s"),
            ("ROLLCALL__LOG__LEVEL", "error"),
        ];
        let ec2 = format!("http://127.0.0.1:{port}");
        let cluster = Cluster::start_behind(ministack, port, [&wire.url, &ec2], &settings).await;
        cluster.enroll(KNOWN);
        let run = |arguments: &[&str]| {
            let output = cluster.command(arguments).output().expect("it starts");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        let [upload, read, admin, revoked] = ["upload", "read", "admin", "admin"]
            .map(|role| run(&["token", "create", "--role", role, "--label", "chaos"]));
        let list = run(&["token", "list"]);
        let id = list.lines().filter_map(|line| line.split_whitespace().next()).find(|id| revoked.contains(id));
        run(&["token", "revoke", id.expect("the token is listed")]);
        let web = vec![Some(cluster.node("web").await), Some(cluster.node("web").await)];
        let controllers = vec![Some(cluster.node("controller").await), Some(cluster.node("controller").await)];
        let watch = Some(FleetWatch::start(&cluster).await);
        let access = Access { urls: Arc::default(), upload, read, admin, revoked, cap: CAP };
        let world = Self { cluster, wire, access, web, controllers, watch, violations: Vec::new() };
        world.publish();
        world
    }

    /// Tells the clients which web nodes there are.
    fn publish(&self) {
        let urls = self.web.iter().flatten().map(|node| node.url("")).collect();
        *self.access.urls.lock().expect("no panic") = urls;
    }

    /// Kills a web node, and starts another. Its URL stays known, as with a client that has cached the address.
    async fn replace_web_node(&mut self, n: usize, kill: bool) {
        let node = self.web[n].take().expect("there is one");
        if kill {
            node.kill9()
        } else {
            node.end()
        }
        self.web[n] = Some(self.cluster.node("web").await);
        self.publish();
    }

    /// Returns the processes of running workers.
    async fn worker_pids(&self) -> Vec<i32> {
        let instances = self.cluster.ec2.get_control("/instances").await;
        let pids = instances.as_array().into_iter().flatten().filter_map(|i| i["pid"].as_i64());
        pids.map(|pid| pid as i32).collect()
    }
}

impl World for Aws {
    fn access(&self) -> Access {
        self.access.clone()
    }

    fn longest_pause_ms(&self) -> u64 {
        12_000
    }

    async fn fault(&mut self, rng: &mut ChaCha12Rng) -> &'static str {
        let n = rng.random_range(0..2);
        match rng.random_range(0..100) {
            roll @ 0..45 => {
                let pids = self.worker_pids().await;
                let Some(pid) = pids.get(rng.random_range(0..pids.len().max(1))) else {
                    return "nothing: there was no worker";
                };
                let (signal, what) = match roll {
                    0..37 => (Signal::SIGKILL, "a worker was killed"),
                    _ => (Signal::SIGSTOP, "a worker was stopped for ever"),
                };
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
                what
            }
            45..60 => {
                self.replace_web_node(n, true).await;
                "a web node was killed"
            }
            60..65 => {
                self.replace_web_node(n, false).await;
                "a web node was shut down"
            }
            65..85 => {
                self.controllers[n].take().expect("there is one").kill9();
                self.controllers[n] = Some(self.cluster.node("controller").await);
                "a controller was killed"
            }
            _ => {
                let rules = json!([
                    { "service": "sqs", "probability": 0.3, "error": { "code": "InternalError", "status": 500 } },
                    { "service": "s3", "probability": 0.3, "error": { "code": "SlowDown", "status": 503 } },
                    { "service": "s3", "probability": 0.1, "response": { "abort_frac": 0.0 } },
                ]);
                wire::rules(&self.wire, rules).await;
                tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..6_000))).await;
                wire::rules(&self.wire, json!([])).await;
                "calls to SQS and S3 failed for seconds"
            }
        }
    }

    async fn finish(&mut self) {
        let sqs = self.cluster.sqs().await;
        let queues = sqs.list_queues().send().await.expect("a list").queue_urls.unwrap_or_default();
        let listener = queues.iter().find(|url| url.contains("listener")).expect("the request queue").clone();
        let mut empty_for = 0;
        wait_until("everything accepted is done", FINISH, async || {
            let request = sqs.get_queue_attributes().queue_url(&listener);
            let response = request.attribute_names(aws_sdk_sqs::types::QueueAttributeName::All).send().await;
            let attributes = response.ok().and_then(|response| response.attributes).unwrap_or_default();
            let empty = attributes.iter().filter(|(name, _)| name.as_str().starts_with("ApproximateNumberOfMessages"));
            let empty = !attributes.is_empty() && empty.into_iter().all(|(_, count)| count == "0");
            empty_for = if empty { empty_for + 1 } else { 0 };
            empty_for == 100
        })
        .await;
    }

    async fn kept(&mut self) -> Kept {
        if let Some(watch) = self.watch.take() {
            let (most, _) = watch.end().await;
            if most > CAP {
                self.violations.push(format!("{most} instances at the same time, with a cap of {CAP}"));
            }
        }
        let mut kept = Kept::default();
        let s3 = self.cluster.s3().await;
        for bucket in ["input", "output", "state"].map(|kind| self.cluster.bucket(kind)) {
            let mut pages = s3.list_objects_v2().bucket(&bucket).into_paginator().send();
            while let Some(page) = pages.next().await {
                for key in page.expect("a page").contents.unwrap_or_default().into_iter().filter_map(|o| o.key) {
                    let object = s3.get_object().bucket(&bucket).key(&key).send().await.expect("an object");
                    find(&object.body.collect().await.expect("bytes").into_bytes(), &mut kept);
                    find(key.as_bytes(), &mut kept);
                    add_object(&bucket, &key, &mut kept);
                }
            }
        }
        kept
    }

    fn measured(&self) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }
}

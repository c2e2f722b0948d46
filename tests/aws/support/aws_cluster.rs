//! A whole Rollcall on AWS's emulators: web node and controller as processes, and a worker process behind each of the
//! emulator's instances.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_ec2::{
    config::Credentials,
    types::{
        LaunchTemplateHttpTokensState, LaunchTemplateInstanceMetadataOptionsRequest, RequestLaunchTemplateData,
        ShutdownBehavior,
    },
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use rollcall::{
    cloud::{QueueSpec, Queues as _, aws::SqsQueues},
    settings::{Layers, Machine, Settings},
};
use rollcall_testing::{Emulator, emulators, free_port};

use super::{
    bill::{Bill, Ledger},
    counting_proxy::CountingProxy,
    iam::{ACCOUNT, CLUSTER, Iam, Keys, NODE_KEY, Template, WORKER_TEMPLATE},
};

/// Name of the launch template that a cluster may use (`aws.launch_template`).
pub const TEMPLATE: &str = WORKER_TEMPLATE;
/// The key that encrypts the disks of an account with keys of its own.
pub const DISK_KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/0987dcba-12ab-34cd-56ef-1234567890ab";
const BUCKETS: [&str; 3] = ["input", "output", "state"];
/// The states of instances that have not ended.
const ALIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];
/// Longest time until a started node is ready, on a busy machine.
const START: Duration = Duration::from_secs(120);

pub struct Cluster {
    pub ministack: Emulator,
    /// Proxies in front of SQS and S3: one for web nodes and controllers, and one for workers.
    pub node_calls: CountingProxy,
    pub worker_calls: CountingProxy,
    pub ec2: Emulator,
    /// A proxy in front of EC2 for all of them.
    pub ec2_calls: CountingProxy,
    /// Decides about the calls of all of them.
    pub iam: Arc<Iam>,
    env: Vec<(String, String)>,
    program: String,
}

impl Cluster {
    /// Starts the emulators and creates the buckets, but starts no node. `extra` are settings of all processes.
    pub async fn start(extra: &[(&str, &str)]) -> Self {
        Self::start_running(&rollcall_testing::program(), extra).await
    }

    /// Does the same with a program other than Rollcall itself.
    pub async fn start_running(program: &str, extra: &[(&str, &str)]) -> Self {
        let (ministack, port) = (Emulator::ministack().await, free_port());
        let [rest, ec2] = [ministack.url.clone(), format!("http://127.0.0.1:{port}")];
        Self::start_with(program, ministack, port, [&rest, &ec2], extra).await
    }

    /// Does the same, except that all processes call the URLs of `wire` for SQS and S3 (the first) and for EC2, which
    /// will be on `port`.
    pub async fn start_behind(ministack: Emulator, port: u16, wire: [&str; 2], extra: &[(&str, &str)]) -> Self {
        Self::start_with(&rollcall_testing::program(), ministack, port, wire, extra).await
    }

    async fn start_with(
        program: &str,
        ministack: Emulator,
        port: u16,
        wire: [&str; 2],
        extra: &[(&str, &str)],
    ) -> Self {
        let control = free_port();
        // An account that encrypts objects with a key of its own does so with disks.
        let objects = extra.iter().find(|(key, _)| *key == "ROLLCALL__AWS__KMS_KEY").map_or("", |(_, key)| key);
        let disks = if objects.is_empty() { "" } else { DISK_KEY };
        let parameters = [("Cluster", CLUSTER), ("KmsKey", objects), ("DiskKeys", disks)];
        let keys = Keys { objects: objects.to_owned(), disks: disks.to_owned() };
        let iam = Iam::new(&Template::read(&parameters), &format!("http://127.0.0.1:{control}"), keys);
        let node_calls = CountingProxy::guarded(wire[0], iam.clone()).await;
        let worker_calls = CountingProxy::guarded(wire[0], iam.clone()).await;
        let ec2_calls = CountingProxy::guarded(wire[1], iam.clone()).await;
        let mut env: Vec<(String, String)> = [
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_EC2", &ec2_calls.url),
            ("ROLLCALL__CLOUD__KIND", "aws"),
            ("ROLLCALL__AWS__S3_PATH_STYLE", "true"),
            ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
            ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
            // The emulator shows the effect of a call immediately.
            ("ROLLCALL__FLEET__DESCRIBE_LAG", "1s"),
            ("ROLLCALL__FLEET__KEEP_STOPPED", "0"),
            ("ROLLCALL__WORKER__IDLE_STOP", "2s"),
            // No minimum is billed here.
            ("ROLLCALL__FLEET__BILLING_MINIMUM", "0s"),
            ("ROLLCALL__WORKER__THREADS", "1"),
            ("ROLLCALL__LOG__LEVEL", "warn"),
        ]
        .iter()
        .chain(extra)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
        for bucket in BUCKETS {
            env.push((format!("ROLLCALL__STORE__{}", bucket.to_uppercase()), name_of(bucket)));
        }
        // The workers' environment is the emulator's; their credentials come from its metadata service.
        let mut workers: Vec<(&str, &str)> = env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        workers.push(("AWS_ENDPOINT_URL_SQS", &worker_calls.url));
        workers.push(("AWS_ENDPOINT_URL_S3", &worker_calls.url));
        let ec2 = Emulator::ec2_on([port, control], Some(&[program, "worker"]), &workers).await;
        env.push(("AWS_ENDPOINT_URL_SQS".into(), node_calls.url.clone()));
        env.push(("AWS_ENDPOINT_URL_S3".into(), node_calls.url.clone()));
        env.push(("AWS_ACCESS_KEY_ID".into(), "operator".into()));
        env.push(("AWS_SECRET_ACCESS_KEY".into(), "test".into()));
        let mut cluster =
            Self { ministack, node_calls, worker_calls, ec2, ec2_calls, iam, env, program: program.to_owned() };
        let s3 = cluster.s3().await;
        for bucket in BUCKETS {
            s3.create_bucket().bucket(cluster.bucket(bucket)).send().await.expect("a bucket");
        }
        cluster.create_queues().await;
        cluster.create_template().await;
        cluster
    }

    /// Creates the queues, as a stack does: the role of nodes may not.
    async fn create_queues(&self) {
        let layers = Layers::load(None, self.env.iter().cloned().collect()).expect("known settings");
        let queue = Settings::from_layers(&layers, Machine::with_cores(2)).expect("valid settings").queue;
        let queues = SqsQueues::new(self.sqs().await, Duration::ZERO, CLUSTER);
        let dead_letters = QueueSpec {
            name: queue.dead_letter.clone(),
            fifo: true,
            visibility: queue.visibility,
            max_receives: u32::MAX,
            dead_letter: None,
            durable: true,
        };
        let dead_letter = Some(queue.dead_letter);
        let max_receives = queue.max_receives;
        let requests = QueueSpec { name: queue.listener, max_receives, dead_letter, ..dead_letters.clone() };
        let replies = QueueSpec { name: queue.speaker, fifo: false, durable: false, ..dead_letters.clone() };
        let status = QueueSpec { name: queue.status, ..replies.clone() };
        for spec in [dead_letters, requests, replies, status] {
            queues.create(spec).await.expect("a queue");
        }
    }

    pub fn bucket(&self, kind: &str) -> String {
        name_of(kind)
    }

    pub async fn s3(&self) -> aws_sdk_s3::Client {
        rollcall::cloud::aws::s3_client(&emulators::sdk(&self.ministack.url).await, true)
    }

    pub async fn sqs(&self) -> aws_sdk_sqs::Client {
        rollcall::cloud::aws::sqs_client(&emulators::sdk(&self.ministack.url).await)
    }

    async fn operator(&self) -> aws_sdk_ec2::Client {
        let config = aws_sdk_ec2::config::Builder::from(&emulators::sdk(&self.ec2.url).await);
        let operator = Credentials::new("operator", "secret", None, None, "test");
        aws_sdk_ec2::Client::from_conf(config.credentials_provider(operator).build())
    }

    /// Creates the launch template [`TEMPLATE`] with its first version, which nodes launch unless they are told otherwise.
    async fn create_template(&mut self) {
        let create = self.operator().await.create_launch_template().launch_template_name(TEMPLATE);
        create.launch_template_data(launch_data()).send().await.expect("a template");
        let version = self.template_version().await;
        self.env.extend(version.settings().map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    /// Adds a version to the launch template, as CloudFormation does: the default version stays the same.
    pub async fn add_template_version(&self) -> TemplateVersion {
        let version = self.operator().await.create_launch_template_version().launch_template_name(TEMPLATE);
        version.launch_template_data(launch_data()).send().await.expect("a version");
        self.template_version().await
    }

    /// Returns the latest version of the launch template.
    pub async fn template_version(&self) -> TemplateVersion {
        let ec2 = self.operator().await;
        let found = ec2.describe_launch_templates().launch_template_names(TEMPLATE).send().await.expect("the template");
        let found = &found.launch_templates()[0];
        TemplateVersion {
            id: found.launch_template_id().expect("an id").to_owned(),
            number: found.latest_version_number().expect("a number").to_string(),
        }
    }

    /// Returns the versions of the launch template that the instances are of, by their ids, unless they have ended.
    pub async fn versions(&self) -> BTreeMap<String, String> {
        let instances = self.ec2.get_control("/instances").await;
        let alive =
            instances.as_array().expect("a list").iter().filter(|i| ALIVE.iter().any(|state| i["state"] == *state));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        alive.map(|i| (text(&i["id"]), text(&i["tags"]["aws:ec2launchtemplate:version"]))).collect()
    }

    /// Returns a command with the cluster's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).envs(self.env.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        command
    }

    /// Adds the people of a folder to the gallery.
    pub fn enroll(&self, folder: &str) {
        let status = self.command(&["enroll", folder]).stdout(Stdio::null()).status();
        assert!(status.expect("the program starts").success(), "enroll {folder}");
    }

    /// Starts a node of that role. One with a web tier is ready on return.
    pub async fn node(&self, role: &str) -> Node {
        self.node_with(role, &[]).await
    }

    /// Does the same with settings of the node's own.
    pub async fn node_with(&self, role: &str, settings: &[(&str, &str)]) -> Node {
        self.node_to(role, settings, Stdio::null()).await
    }

    /// Does the same with a node whose standard output goes there.
    pub async fn node_to(&self, role: &str, settings: &[(&str, &str)], output: Stdio) -> Node {
        let port = free_port();
        let mut command = self.command(&[role]);
        command.env("AWS_ACCESS_KEY_ID", NODE_KEY).envs(settings.iter().copied());
        if let Some((_, path)) = self.env.iter().find(|(key, _)| key == "EC2_SHIM_LOG") {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(path);
            command.stderr(log.expect("a log file"));
        }
        command.env("ROLLCALL__HTTP__LISTEN", format!("127.0.0.1:{port}")).stdout(output);
        let mut node = Node { process: command.spawn().expect("the program starts"), port };
        if role != "controller" {
            node.wait_ready().await;
        }
        node
    }

    /// Returns the ids and states of all instances, as EC2 has them.
    pub async fn instances(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let instances = self.ec2.get_control("/instances").await;
        instances.as_array().expect("a list").iter().map(|i| (text(&i["id"]), text(&i["state"]))).collect()
    }

    /// Returns what EC2 has recorded of all instances.
    pub async fn ledger(&self) -> Ledger {
        serde_json::from_value(self.ec2.get_control("/ledger").await).expect("a ledger")
    }

    /// Returns what has been billed so far.
    pub async fn bill(&self) -> Bill {
        Bill::of(&self.ledger().await, self.node_calls.billed() + self.worker_calls.billed())
    }

    /// Returns the number of instances in these states.
    pub async fn count(&self, states: &[&str]) -> usize {
        self.instances().await.iter().filter(|(_, state)| states.contains(&state.as_str())).count()
    }
}

/// Returns what the launch template says of an instance, as that of the stack does.
fn launch_data() -> RequestLaunchTemplateData {
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_tokens(LaunchTemplateHttpTokensState::Required)
        .http_put_response_hop_limit(1);
    RequestLaunchTemplateData::builder()
        .image_id("ami-12345678")
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .metadata_options(metadata.build())
        .build()
}

/// Returns the name of a bucket of the stack.
fn name_of(kind: &str) -> String {
    format!("{CLUSTER}-{kind}-{ACCOUNT}")
}

/// A version of the launch template.
pub struct TemplateVersion {
    id: String,
    pub number: String,
}

impl TemplateVersion {
    /// Returns the settings by which the user data of a web node states the version.
    pub fn settings(&self) -> [(&str, &str); 2] {
        [("ROLLCALL__AWS__LAUNCH_TEMPLATE", &self.id), ("ROLLCALL__AWS__LAUNCH_TEMPLATE_VERSION", &self.number)]
    }
}

/// A process of the cluster that is not a worker.
pub struct Node {
    process: Child,
    port: u16,
}

impl Node {
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn wait_ready(&mut self) {
        let (url, started) = (self.url("/readyz"), Instant::now());
        while !reqwest::get(&url).await.is_ok_and(|response| response.status() == 200) {
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                panic!("the node ended with {status}");
            }
            assert!(started.elapsed() < START, "the node is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id() as i32), signal).expect("the process is ours");
    }

    /// Kills it as `kill -9` does.
    pub fn kill9(mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// Sends it SIGTERM and waits until it has ended.
    pub fn end(mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.process.wait().expect("the process is ours").success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

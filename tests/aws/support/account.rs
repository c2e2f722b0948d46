//! An AWS account on emulators in which `rollcall aws` can be run: machines boot with their own user data.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use serde_json::Value;
use tempfile::TempDir;

use rollcall_testing::{Emulator, emulators, free_port};

use super::{
    counting_proxy::CountingProxy,
    iam::{CLUSTER, Iam, Keys, Template},
};

pub struct Account {
    /// SQS, S3, CloudFormation and the rest.
    pub ministack: Emulator,
    pub ec2: Emulator,
    /// The disks of machines and images, by id.
    disks: TempDir,
    /// The port of the elastic address, at which the web node is reached.
    web_port: u16,
    /// Decides about the calls of the machines, if their roles are enforced.
    pub iam: Option<Arc<Iam>>,
    /// The port of the load balancer, through which several web nodes are reached.
    balancer_port: u16,
}

/// The name that the certificate of the load balancer is for.
pub const HOST: &str = "faces.example.com";

/// The output of a command.
pub struct CommandOutput {
    pub success: bool,
    /// The exit code; `None` if a signal has ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Account {
    /// Starts the emulators. `machines` are settings of all machines, which may do everything, and of the emulators.
    pub async fn start(machines: &[(&str, &str)]) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let [rest, ec2] = [ports[0], ports[1]].map(|port| format!("http://127.0.0.1:{port}"));
        Self::start_with(ports, [&rest, &ec2], None, machines).await
    }

    /// Does the same with machines that may do what the roles of the template allow.
    pub async fn start_with_roles(machines: &[(&str, &str)]) -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let [rest, ec2, control] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let iam = Iam::new(
            &Template::read(&[("Cluster", CLUSTER), ("BucketSuffix", "-us-east-1")]),
            &control,
            Keys::default(),
        );
        let rest = CountingProxy::guarded(&rest, iam.clone()).await;
        let ec2 = CountingProxy::guarded(&ec2, iam.clone()).await;
        Self::start_with(ports, [&rest.url, &ec2.url], Some(iam), machines).await
    }

    /// Starts the emulators of SQS and S3, of EC2, and the latter's control on these ports. The machines call the URLs of
    /// `wire`.
    async fn start_with(
        [port, ec2_port, control]: [u16; 3],
        wire: [&str; 2],
        iam: Option<Arc<Iam>>,
        machines: &[(&str, &str)],
    ) -> Self {
        let disks = tempfile::tempdir().expect("a temporary folder");
        let (web_port, balancer_port) = (free_port(), free_port());
        let address_port = web_port.to_string();
        let folder = disks.path().to_str().expect("a path");
        let own = [
            ("EC2_SHIM_DISKS", folder),
            ("EC2_SHIM_LOG", &format!("{folder}/log")),
            ("AWS_ENDPOINT_URL_S3", wire[0]),
            ("AWS_ENDPOINT_URL_SQS", wire[0]),
            ("AWS_ENDPOINT_URL_EC2", wire[1]),
            ("ROLLCALL__AWS__S3_PATH_STYLE", "true"),
            ("AWS_ENDPOINT_URL_CLOUDFORMATION", wire[0]),
            ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", wire[0]),
            ("EC2_SHIM_ADDRESS_PORT", &address_port),
        ];
        let ec2 = Emulator::ec2_on([ec2_port, control], None, &[&own[..], machines].concat()).await;
        let own = [
            ("AWS_ENDPOINT_URL_EC2", ec2.url.as_str()),
            ("EC2_SHIM_DISKS", folder),
            ("EC2_SHIM_CONTROL", &ec2.control),
            ("LOAD_BALANCER_PORT", &balancer_port.to_string()),
            ("LOAD_BALANCER_NAME", HOST),
        ];
        let ministack = Emulator::ministack_with_cloudformation(port, &[&own[..], machines].concat()).await;
        Self { ministack, ec2, disks, web_port, iam, balancer_port }
    }

    /// Returns a `rollcall` command with an operator's credentials for this account.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(rollcall_testing::program());
        command
            .args(arguments)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_ENDPOINT_URL", &self.ministack.url)
            .env("AWS_ENDPOINT_URL_EC2", &self.ec2.url)
            .env("ROLLCALL__AWS__S3_PATH_STYLE", "true")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> CommandOutput {
        command_output(self.command(arguments).output().expect("the program starts"))
    }

    pub fn web(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.web_port)
    }

    /// Returns a URL of the load balancer.
    pub fn balanced(&self, path: &str) -> String {
        format!("https://{HOST}:{}{path}", self.balancer_port)
    }

    /// Returns a client of the load balancer, which trusts its certificate alone.
    pub fn balanced_client(&self, token: &str) -> reqwest::Client {
        let pem = std::fs::read(self.disk("certificate.pem")).expect("a load balancer listens");
        let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
        let mut headers = reqwest::header::HeaderMap::new();
        // Machines listen on loopback here, where they know no other name.
        headers.insert("host", "localhost".parse().expect("a header"));
        headers.insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        let client = reqwest::Client::builder().tls_certs_only([certificate]).default_headers(headers);
        client.resolve(HOST, ([127, 0, 0, 1], self.balancer_port).into()).build().expect("a client")
    }

    /// Runs a command on the cluster's data, as docs/aws.md tells operators to, and returns its output. `state` is the bucket.
    pub fn run_on_cluster(&self, state: &str, arguments: &[&str]) -> CommandOutput {
        let mut command = self.command(arguments);
        command.env("ROLLCALL__CLOUD__KIND", "aws").env("ROLLCALL__STORE__STATE", state);
        command_output(command.output().expect("the program starts"))
    }

    /// Lets CloudFormation wait for no more than a few seconds, from now on, for the signals that a stack demands: for tests in
    /// which they never come.
    pub fn expect_no_signal(&self) {
        std::fs::write(self.disk("longest-wait"), "4").expect("written");
    }

    /// Returns the log of the machines' services.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.disks.path().join("log")).unwrap_or_default()
    }

    pub fn disk(&self, id: &str) -> PathBuf {
        self.disks.path().join(id)
    }

    pub async fn s3(&self) -> aws_sdk_s3::Client {
        rollcall::cloud::aws::s3_client(&emulators::sdk(&self.ministack.url).await, true)
    }

    pub async fn sqs(&self) -> aws_sdk_sqs::Client {
        rollcall::cloud::aws::sqs_client(&emulators::sdk(&self.ministack.url).await)
    }

    pub async fn ec2(&self) -> aws_sdk_ec2::Client {
        Self::ec2_of(&self.ec2).await
    }

    /// Returns an operator's client of that emulator.
    pub async fn ec2_of(emulator: &Emulator) -> aws_sdk_ec2::Client {
        rollcall::cloud::aws::ec2_client(&emulators::sdk(&emulator.url).await)
    }

    pub async fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(&emulators::sdk(&self.ministack.url).await)
    }

    /// Returns the names of all buckets.
    pub async fn buckets(&self) -> Vec<String> {
        let list = self.s3().await.list_buckets().send().await.expect("a list");
        list.buckets.unwrap_or_default().into_iter().filter_map(|bucket| bucket.name).collect()
    }

    /// Returns the ids and states of all machines.
    pub async fn machines(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let machines = self.ec2.get_control("/instances").await;
        machines.as_array().expect("a list").iter().map(|m| (text(&m["id"]), text(&m["state"]))).collect()
    }

    /// Returns the states of all machines.
    pub async fn states(&self) -> Vec<String> {
        self.machines().await.into_iter().map(|(_, state)| state).collect()
    }
}

pub fn command_output(output: Output) -> CommandOutput {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status;
    CommandOutput {
        success: status.success(),
        code: status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

impl CommandOutput {
    /// Returns the standard output of a command that must have succeeded.
    pub fn done(self) -> String {
        assert!(self.success, "{}{}", self.out, self.err);
        self.out
    }

    /// Returns the standard error of a command that must have failed.
    pub fn failed(self) -> String {
        assert!(!self.success, "it succeeded: {}{}", self.out, self.err);
        self.err
    }
}

/// Creates a program for images that runs `script`, and returns its path.
pub fn program(folder: &Path, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    path.to_str().expect("a path").to_owned()
}

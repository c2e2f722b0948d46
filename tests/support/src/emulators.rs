//! The emulators that stand in for AWS in tests. They end with the process that started them, however it ends.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use tokio::sync::OnceCell;

use crate::{free_port, wait_until};

/// Longest time until an emulator responds, on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A running emulator.
pub struct Emulator {
    pub url: String,
    /// URL at which its faults and delays are set, if it has one.
    pub control: String,
    /// Its standard input. The emulator ends when this is closed, and this is closed when the emulator ends.
    stdin: UnixStream,
    /// Its process, if it is a child of this one.
    process: Option<Child>,
}

impl Emulator {
    /// Runs a Python module or file, and waits until `path` responds. Arguments and environment may contain `{port}`
    /// and `{control}`, which are replaced by two free ports.
    pub async fn start(module: &str, arguments: &[&str], environment: &[(&str, &str)], path: &str) -> Self {
        Self::start_on([free_port(), free_port()], module, arguments, environment, path).await
    }

    /// Starts an emulator with these ports and control port, for callers that must know them in advance.
    pub async fn start_on(
        ports: [u16; 2],
        module: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        path: &str,
    ) -> Self {
        let packages = assets().join("python/aws");
        assert!(packages.is_dir(), "the emulators are not installed: run `make setup-test`");
        let [port, control] = ports.map(|port| port.to_string());
        let fill = |text: &str| text.replace("{port}", &port).replace("{control}", &control);
        let arguments: Vec<String> =
            std::iter::once(module.to_owned()).chain(arguments.iter().map(|a| fill(a))).collect();
        let packages = std::path::absolute(packages).expect("a path").display().to_string();
        let environment: BTreeMap<String, String> = environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), fill(value)))
            .chain([("PYTHONPATH".to_owned(), packages)])
            .collect();
        let (stdin, process) = match std::env::var_os("ROLLCALL_TEST_EMULATORS") {
            Some(socket) => (spawn_preforked(socket.as_ref(), &arguments, environment), None),
            None => spawn(&arguments, environment),
        };
        let [url, control] = [port, control].map(|port| format!("http://127.0.0.1:{port}"));
        let mut emulator = Self { url, control, stdin, process };
        emulator.wait_for(path).await;
        emulator
    }

    /// Waits until the emulator responds to `path` with anything but a server error.
    async fn wait_for(&mut self, path: &str) {
        let url = format!("{}{path}", self.url);
        let what = format!("the emulator at {url} responds");
        wait_until(&what, START, async || {
            assert!(!self.ended(), "the emulator at {url} ended: set ROLLCALL_TEST_LOG to see why");
            reqwest::get(&url).await.is_ok_and(|response| response.status().as_u16() < 500)
        })
        .await;
    }

    fn ended(&mut self) -> bool {
        self.stdin.set_nonblocking(true).expect("a socket");
        let ended = matches!(self.stdin.read(&mut [0]), Ok(0));
        self.stdin.set_nonblocking(false).expect("a socket");
        ended
    }

    /// Starts an emulator of SQS and S3.
    pub async fn ministack() -> Self {
        let environment = [("BIND_HOST", "127.0.0.1"), ("GATEWAY_PORT", "{port}"), ("LOG_LEVEL", "ERROR")];
        Self::start("ministack", &[], &environment, "/_ministack/health").await
    }

    /// Starts an emulator of SQS, S3 and CloudFormation. `environment` names the EC2 emulator on which stacks launch their
    /// instances, and the folder of its disks.
    pub async fn ministack_with_cloudformation(port: u16, environment: &[(&str, &str)]) -> Self {
        let own = [("BIND_HOST", "127.0.0.1"), ("GATEWAY_PORT", "{port}"), ("LOG_LEVEL", "ERROR")];
        let (ports, environment) = ([port, free_port()], [&own[..], environment].concat());
        Self::start_on(ports, "tests/emulators/cloudformation_shim.py", &[], &environment, "/_ministack/health").await
    }

    /// Starts an EC2 emulator. `worker` is the command that an instance runs, and `environment` its environment.
    pub async fn ec2(worker: Option<&[&str]>, environment: &[(&str, &str)]) -> Self {
        Self::ec2_on([free_port(), free_port()], worker, environment).await
    }

    /// Starts an EC2 emulator with this port and control port, for callers that must know them in advance.
    pub async fn ec2_on(ports: [u16; 2], worker: Option<&[&str]>, environment: &[(&str, &str)]) -> Self {
        let worker = serde_json::to_string(&worker).expect("JSON");
        let environment: Vec<(&str, &str)> =
            environment.iter().copied().chain([("EC2_SHIM_WORKER", worker.as_str())]).collect();
        let arguments = ["{port}", "{control}"];
        let emulator =
            Self::start_on(ports, "tests/emulators/ec2_shim.py", &arguments, &environment, "/moto-api/").await;
        let delays = serde_json::json!({ "pending": 0.3, "stopping": 0.3, "shutting-down": 0.3, "image": 0.3 });
        emulator.post_control("/delays", delays).await;
        emulator
    }

    /// Posts to the control port.
    pub async fn post_control(&self, path: &str, what: serde_json::Value) {
        let response = reqwest::Client::new().post(format!("{}{path}", self.control)).json(&what).send().await;
        response.and_then(reqwest::Response::error_for_status).expect("the emulator accepts the setting");
    }

    /// Gets from the control port.
    pub async fn get_control(&self, path: &str) -> serde_json::Value {
        let response = reqwest::get(format!("{}{path}", self.control)).await.expect("the emulator responds");
        response.json().await.expect("JSON")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.stdin.shutdown(Shutdown::Write); // it ends with all that it has started
        let _ = self.stdin.read(&mut [0]);
        let _ = self.process.as_mut().map(Child::wait);
    }
}

/// Starts an emulator as a separate process, and returns the other end of its standard input and the process.
fn spawn(arguments: &[String], environment: BTreeMap<String, String>) -> (UnixStream, Option<Child>) {
    let (stdin, input) = UnixStream::pair().expect("a pair of sockets");
    let process = Command::new("python3")
        .arg("tests/emulators/emulator.py")
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::from(OwnedFd::from(input)))
        .stdout(Stdio::null())
        .stderr(if std::env::var_os("ROLLCALL_TEST_LOG").is_some() { Stdio::inherit() } else { Stdio::null() })
        .spawn()
        .expect("python3 starts");
    (stdin, Some(process))
}

/// Requests an emulator from `tests/emulators/prefork.py`, and returns the other end of its standard input.
fn spawn_preforked(socket: &Path, arguments: &[String], environment: BTreeMap<String, String>) -> UnixStream {
    let text = |text: std::ffi::OsString| text.into_string().expect("the environment is text");
    let inherited = std::env::vars_os().map(|(key, value)| (text(key), text(value)));
    let environment: BTreeMap<String, String> = inherited.chain(environment).collect();
    let folder = std::env::current_dir().expect("a working directory");
    let request = serde_json::json!({ "arguments": arguments, "environment": environment, "folder": folder });
    let mut stdin = UnixStream::connect(socket).expect("prefork.py listens while it runs the tests");
    stdin.write_all(format!("{request}\n").as_bytes()).expect("prefork.py reads the request");
    stdin
}

/// Returns the ministack that all tests in this process share.
pub async fn shared_ministack() -> &'static Emulator {
    static SHARED: OnceCell<Emulator> = OnceCell::const_new();
    SHARED.get_or_init(Emulator::ministack).await
}

/// Returns the EC2 emulator without workers that all tests in this process share.
pub async fn shared_ec2() -> &'static Emulator {
    static SHARED: OnceCell<Emulator> = OnceCell::const_new();
    SHARED.get_or_init(|| Emulator::ec2(None, &[])).await
}

/// Returns an SDK configuration for an emulator. Its connections belong to the runtime that uses it first.
pub async fn sdk(url: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "emulator"))
        .endpoint_url(url)
        .load()
        .await
}

pub fn assets() -> PathBuf {
    std::env::var_os("ROLLCALL_ASSETS").map_or_else(|| ".assets".into(), PathBuf::from)
}

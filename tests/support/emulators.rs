//! The emulators that stand for AWS in tests. They end with the process that started them, however it ends.
#![allow(dead_code)] // each test file uses a part

use std::{
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::Credentials;
use tokio::sync::OnceCell;

/// Longest time until an emulator answers, on a busy machine.
const START: Duration = Duration::from_secs(90);

/// A running emulator.
pub struct Emulator {
    pub url: String,
    process: Child,
    /// Its end is the emulator's end.
    lifeline: Option<ChildStdin>,
}

impl Emulator {
    /// Runs a Python module on a free port, and waits until `path` answers. The environment may name the port as `{port}`.
    pub async fn start(module: &str, arguments: &[&str], environment: &[(&str, &str)], path: &str) -> Self {
        let packages = assets().join("python/aws");
        assert!(packages.is_dir(), "the emulators are not there: run `make setup-test`");
        let port = free_port().to_string();
        let fill = |text: &str| text.replace("{port}", &port);
        let mut process = Command::new("python3")
            .args(["tools/emulator.py", module])
            .args(arguments.iter().map(|a| fill(a)))
            .env("PYTHONPATH", std::path::absolute(packages).expect("a path"))
            .envs(environment.iter().map(|(key, value)| (key, fill(value))))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("python3 starts");
        let lifeline = process.stdin.take();
        let mut emulator = Self { url: format!("http://127.0.0.1:{port}"), process, lifeline };
        emulator.wait_for(path).await;
        emulator
    }

    /// Waits until it answers anything but a server's error.
    async fn wait_for(&mut self, path: &str) {
        let (url, started) = (format!("{}{path}", self.url), Instant::now());
        while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().as_u16() < 500) {
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                panic!("the emulator ended with {status}");
            }
            assert!(started.elapsed() < START, "the emulator at {url} does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SQS and S3.
    pub async fn ministack() -> Self {
        let environment = [("BIND_HOST", "127.0.0.1"), ("GATEWAY_PORT", "{port}"), ("LOG_LEVEL", "ERROR")];
        Self::start("ministack", &[], &environment, "/_ministack/health").await
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One ministack for all tests of this program.
pub async fn shared_ministack() -> &'static Emulator {
    static SHARED: OnceCell<Emulator> = OnceCell::const_new();
    SHARED.get_or_init(Emulator::ministack).await
}

/// An SDK configuration for an emulator. Its connections belong to the runtime that uses it first.
pub async fn sdk(url: &str) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "emulator"))
        .endpoint_url(url)
        .load()
        .await
}

fn assets() -> PathBuf {
    std::env::var_os("ROLLCALL_ASSETS").map_or_else(|| ".assets".into(), PathBuf::from)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

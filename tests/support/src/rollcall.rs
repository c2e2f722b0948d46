//! A complete Rollcall process for tests, with its own data folder and port. Dropping it kills it and its workers.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use reqwest::Certificate;
use serde_json::Value;

use crate::{free_port, http::Client, wait_until};

/// Longest time until a started Rollcall is ready, on a busy machine.
const START: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct RollcallOptions {
    env: Vec<(String, String)>,
    enroll: Vec<PathBuf>,
    disk: Option<&'static str>,
    /// Where the log goes.
    log: Option<PathBuf>,
    /// The authority in PEM that has signed the server's certificate.
    authority: Option<String>,
}

impl RollcallOptions {
    /// Appends the log, and that of the workers, to a file.
    pub fn log(self, path: impl Into<PathBuf>) -> Self {
        Self { log: Some(path.into()), ..self }
    }

    /// Makes the server speak HTTPS as `localhost`, with a certificate of this authority (in PEM) and its key.
    pub fn tls(self, authority: &str, certificate: &Path, key: &Path) -> Self {
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let files = self.env("ROLLCALL__HTTP__TLS_CERTIFICATE", &path(certificate));
        Self { authority: Some(authority.to_owned()), ..files.env("ROLLCALL__HTTP__TLS_KEY", &path(key)) }
    }

    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Puts the data folder on a disk of its own with this size (as `mount` takes it), which only this process sees and
    /// which is empty after a restart. Needs [`small_disks_work`]. Cannot be combined with `enroll`.
    pub fn disk(mut self, size: &'static str) -> Self {
        self.disk = Some(size);
        self
    }

    /// Adds a folder of people to enrol, relative to the package.
    pub fn enroll(mut self, folder: impl Into<PathBuf>) -> Self {
        self.enroll.push(folder.into());
        self
    }
}

pub struct Rollcall {
    options: RollcallOptions,
    data: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Rollcall {
    /// Enrols people, starts the server, and returns when `/readyz` reports that it is ready.
    pub async fn start(options: RollcallOptions) -> Self {
        assert!(Path::new(".assets/onnxruntime").exists(), "the models are not there: run `make setup`");
        crate::openapi::prepare();
        let data = tempfile::tempdir().expect("a temporary folder");
        let port = free_port();
        for folder in &options.enroll {
            let status = command(&options, data.path(), port).arg("enroll").arg(folder).status();
            assert!(status.expect("the program starts").success(), "enroll {}", folder.display());
        }
        let process = spawn(&options, data.path(), port);
        let mut server = Self { options, data, port, process };
        server.wait_ready().await;
        server
    }

    pub fn url(&self, path: &str) -> String {
        match self.options.authority {
            Some(_) => format!("https://localhost:{}{path}", self.port),
            None => format!("http://127.0.0.1:{}{path}", self.port),
        }
    }

    /// Returns a client that trusts the server's authority, and checks responses.
    pub fn client(&self) -> Client {
        self.unchecked_client().into()
    }

    fn unchecked_client(&self) -> reqwest::Client {
        let authority = self.options.authority.iter().map(|pem| Certificate::from_pem(pem.as_bytes()).expect("PEM"));
        reqwest::Client::builder().tls_certs_only(authority).build().expect("a client")
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns the data folder as the process sees it.
    pub fn mounted_data_dir(&self) -> PathBuf {
        let inside = self.data.path().strip_prefix("/").expect("an absolute path");
        Path::new(&format!("/proc/{}/root", self.pid())).join(inside)
    }

    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Changes a variable of the environment for later starts and commands; `None` removes it.
    pub fn set_env(&mut self, key: &str, value: Option<&str>) {
        self.options.env.retain(|(known, _)| known != key);
        self.options.env.extend(value.map(|value| (key.to_owned(), value.to_owned())));
    }

    /// Runs a command with the settings of this server, until it ends.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.options, self.data.path(), self.port);
        command.args(arguments).stdout(Stdio::piped()).output().expect("the program starts")
    }

    /// Kills the parent as `kill -9` does; its workers notice by themselves.
    pub fn kill9(&mut self) {
        self.process.kill().expect("the process is ours");
        self.process.wait().expect("the process is ours");
    }

    /// Asks the process to end, and waits until it has.
    pub async fn stop(&mut self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).expect("the process is ours");
        wait_until("rollcall has ended", START, async || {
            self.process.try_wait().expect("the process is ours").is_some()
        })
        .await;
    }

    /// Kills the process, if it is still running, and starts it again with the same data and port.
    pub async fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = spawn(&self.options, self.data.path(), self.port);
        self.wait_ready().await;
    }

    pub async fn fleet(&self) -> Value {
        let response = self.client().get(self.url("/v1/fleet")).send().await.expect("the server responds");
        response.json().await.expect("JSON")
    }

    /// Waits until the queue has been read several times, and was empty each time: the fleet shows the depth that it
    /// read last, which may be from before the latest jobs were sent or found after a restart.
    pub async fn wait_until_queue_is_empty(&self) {
        let mut empty_for = 0;
        wait_until("no job is left in the queue", Duration::from_secs(90), async || {
            let depth = &self.fleet().await["depth"];
            let empty = [&depth["visible"], &depth["in_flight"], &depth["delayed"]].into_iter().all(|jobs| jobs == 0);
            empty_for = if empty { empty_for + 1 } else { 0 };
            empty_for == 40
        })
        .await;
    }

    /// Returns the ids of the worker processes whose instances are pending or running.
    pub async fn worker_pids(&self) -> Vec<u32> {
        let fleet = self.fleet().await;
        let instances = fleet["instances"].as_array().expect("instances");
        let alive = instances.iter().filter(|i| i["state"] == "running" || i["state"] == "pending");
        alive.filter_map(|i| i["pid"].as_u64()).map(|pid| pid as u32).collect()
    }

    async fn wait_ready(&mut self) {
        let (url, client) = (self.url("/readyz"), self.unchecked_client());
        wait_until("rollcall is ready", START, async || {
            if let Some(status) = self.process.try_wait().expect("the process is ours") {
                panic!("rollcall ended with {status}");
            }
            client.get(&url).send().await.is_ok_and(|response| response.status() == 200)
        })
        .await;
    }
}

impl Drop for Rollcall {
    fn drop(&mut self) {
        // The workers are in the same process group.
        let _ = killpg(Pid::from_raw(self.process.id() as i32), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

/// Returns the most memory that a process has had, in bytes (`VmHWM` in proc(5)).
pub fn peak_memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

fn command(options: &RollcallOptions, data: &Path, port: u16) -> Command {
    let mut command = Command::new(crate::program());
    command
        .env("ROLLCALL__LOCAL__DATA_DIR", data)
        .env("ROLLCALL__HTTP__LISTEN", format!("127.0.0.1:{port}"))
        .env("ROLLCALL__LOG__LEVEL", "warn")
        .envs(options.env.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn spawn(options: &RollcallOptions, data: &Path, port: u16) -> Child {
    let mut up = command(options, data, port);
    if let Some(size) = options.disk {
        let mut mounted = Command::new("unshare");
        mounted.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNT]).arg(up.get_program());
        mounted.arg(data).arg(size);
        for (key, value) in up.get_envs() {
            if let Some(value) = value {
                mounted.env(key, value);
            }
        }
        up = mounted;
    } else {
        up.arg("up");
    }
    if let Some(log) = &options.log {
        up.stderr(File::options().create(true).append(true).open(log).expect("the log is opened"));
    }
    up.process_group(0).spawn().expect("the program starts")
}

/// Mounts a disk and replaces the shell with the program.
const MOUNT: &str = r#"mount -t tmpfs -o "size=$2,mode=700" none "$1" && exec "$0" up"#;

/// Returns whether this user may mount disks that only a process of theirs sees.
pub fn small_disks_work() -> bool {
    let check = ["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"];
    Command::new("unshare").args(check).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

//! Rollcall on one machine, on a disk of its own that can be filled, and with a clock that can be set.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use rand::{RngExt as _, rngs::ChaCha12Rng};
use reqwest::{Client, multipart::Form};
use rollcall_testing::uploads::{KNOWN, faceless, file};
use rollcall_testing::{free_port, program, small_disks_work, wait_until};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    clock::Clock,
    world::{Access, Kept, World, add_object, find},
};

const CAP: usize = 2;
/// Longest time until a started server is ready, on a busy machine.
const START: Duration = Duration::from_secs(90);
/// Longest time in which what was accepted is done at the end.
const FINISH: Duration = Duration::from_secs(600);
/// Size of the disk, as `mount` takes it.
const DISK: &str = "3g";

/// A server and its disk.
pub struct OneMachine {
    access: Access,
    port: u16,
    clock: Clock,
    /// The folder where the disk is mounted.
    folder: tempfile::TempDir,
    /// The process that keeps the disk mounted, if disks can be mounted.
    disk: Option<Disk>,
    server: Child,
    measured: BTreeMap<String, f64>,
    violations: Vec<String>,
}

impl OneMachine {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Clock::build(folder.path());
        let disk = small_disks_work().then(|| Disk::mount(folder.path()));
        if disk.is_none() {
            println!("no disk can be mounted here: it is never full");
        }
        let port = free_port();
        let run = |arguments: &[&str]| {
            let output = command(disk.as_ref(), folder.path(), port, &clock, arguments).output().expect("it starts");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).expect("text").trim().to_owned()
        };
        run(&["enroll", KNOWN]);
        let [upload, read, admin, revoked] = ["upload", "read", "admin", "admin"]
            .map(|role| run(&["token", "create", "--role", role, "--label", "chaos"]));
        let list = run(&["token", "list"]);
        let id = list.lines().filter_map(|line| line.split_whitespace().next()).find(|id| revoked.contains(id));
        run(&["token", "revoke", id.expect("the token is listed")]);
        let urls = Arc::new(Mutex::new(vec![format!("http://127.0.0.1:{port}")]));
        let access = Access { urls, upload, read, admin, revoked, cap: CAP };
        let server = spawn(command(disk.as_ref(), folder.path(), port, &clock, &["up"]));
        let (measured, violations) = Default::default();
        let mut world = Self { access, port, clock, folder, disk, server, measured, violations };
        world.wait_ready().await;
        world
    }

    fn data_dir(&self) -> PathBuf {
        data_dir(self.disk.as_ref(), self.folder.path())
    }

    async fn wait_ready(&mut self) {
        let (url, began) = (self.access.url(0, "/readyz"), Instant::now());
        wait_until("the server is ready", START, async || {
            if let Some(status) = self.server.try_wait().expect("ours") {
                panic!("the server ended with {status}");
            }
            reqwest::get(&url).await.is_ok_and(|response| response.status() == 200)
        })
        .await;
        self.most("seconds until a restarted server was ready", began.elapsed().as_secs_f64());
    }

    /// Keeps the largest value.
    fn most(&mut self, what: &str, value: f64) {
        let entry = self.measured.entry(what.to_owned()).or_default();
        *entry = entry.max(value);
    }

    fn note_memory(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        self.most("MB of memory of the server at most", peak.unwrap_or(0.0) / 1024.0);
    }

    async fn restart(&mut self, signal: Signal) {
        self.note_memory();
        kill(Pid::from_raw(self.server.id() as i32), signal).expect("ours");
        let status = self.server.wait().expect("ours");
        if signal == Signal::SIGTERM && !status.success() {
            self.violations.push(format!("after SIGTERM the server ended with {status}"));
        }
        self.server = spawn(command(self.disk.as_ref(), self.folder.path(), self.port, &self.clock, &["up"]));
        self.wait_ready().await;
    }

    async fn fleet(&self) -> Option<Value> {
        let request = Client::new().get(self.access.url(0, "/v1/fleet")).bearer_auth(&self.access.admin);
        request.send().await.ok()?.json().await.ok()
    }

    /// Sends a signal to one of the workers. Returns its process id.
    async fn signal_worker(&self, rng: &mut ChaCha12Rng, signal: Signal) -> Option<Pid> {
        let fleet = self.fleet().await?;
        let pids: Vec<i64> = fleet["instances"].as_array()?.iter().filter_map(|i| i["pid"].as_i64()).collect();
        let pid = Pid::from_raw(*pids.get(rng.random_range(0..pids.len().max(1)))? as i32);
        kill(pid, signal).ok()?;
        Some(pid)
    }

    /// Fills the disk for some seconds, and measures how long it takes until uploads are accepted again.
    async fn fill_disk(&mut self, rng: &mut ChaCha12Rng) {
        let filler = self.data_dir().join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        let zeros = vec![0; 1 << 20];
        while file.write_all(&zeros).is_ok() {}
        drop(file);
        tokio::time::sleep(Duration::from_millis(rng.random_range(2_000..6_000))).await;
        fs::remove_file(filler).expect("the file is there");
        let began = Instant::now();
        wait_until("uploads are accepted after the disk was full", START, async || {
            let form = Form::new().part("myfile", file_part());
            let request = Client::new().post(self.access.url(0, "/v1/recognitions")).bearer_auth(&self.access.upload);
            let response = request.header("Prefer", "respond-async").multipart(form).send().await;
            response.is_ok_and(|response| response.status() == 202)
        })
        .await;
        self.most("seconds until uploads were accepted after the disk had been full", began.elapsed().as_secs_f64());
    }
}

fn file_part() -> reqwest::multipart::Part {
    file("room.png", &faceless(40, 40))
}

impl World for OneMachine {
    fn access(&self) -> Access {
        self.access.clone()
    }

    fn longest_pause_ms(&self) -> u64 {
        9_000
    }

    async fn fault(&mut self, rng: &mut ChaCha12Rng) -> &'static str {
        match rng.random_range(0..100) {
            0..40 => match self.signal_worker(rng, Signal::SIGKILL).await {
                Some(_) => "a worker was killed",
                None => "nothing: there was no worker",
            },
            40..65 => {
                self.restart(Signal::SIGKILL).await;
                "the server was killed"
            }
            65..70 => {
                self.restart(Signal::SIGTERM).await;
                "the server was shut down"
            }
            70..78 => match self.signal_worker(rng, Signal::SIGSTOP).await {
                Some(_) => "a worker was stopped for ever",
                None => "nothing: there was no worker",
            },
            78..84 => {
                let Some(pid) = self.signal_worker(rng, Signal::SIGSTOP).await else {
                    return "nothing: there was no worker";
                };
                tokio::time::sleep(Duration::from_millis(rng.random_range(100..8_000))).await;
                let _ = kill(pid, Signal::SIGCONT); // it may have been replaced
                "a worker was stopped for seconds"
            }
            84..88 => {
                let server = Pid::from_raw(self.server.id() as i32);
                kill(server, Signal::SIGSTOP).expect("ours");
                tokio::time::sleep(Duration::from_millis(rng.random_range(100..8_000))).await;
                kill(server, Signal::SIGCONT).expect("ours");
                "the server was stopped for seconds"
            }
            88..94 if self.disk.is_some() => {
                self.fill_disk(rng).await;
                "the disk was full"
            }
            _ => {
                self.clock.set(rng.random_range(-7_200_000..7_200_000));
                if rng.random() {
                    self.restart(Signal::SIGKILL).await;
                }
                tokio::time::sleep(Duration::from_millis(rng.random_range(500..8_000))).await;
                self.clock.set(0);
                "the clock was set, and set back"
            }
        }
    }

    async fn finish(&mut self) {
        self.clock.set(0);
        // What killed processes have left is found at the start.
        self.restart(Signal::SIGKILL).await;
        let mut empty_for = 0;
        let fleet = async || self.fleet().await.unwrap_or_default();
        wait_until("everything accepted is done", FINISH, async || {
            let depth = &fleet().await["depth"];
            let empty = ["visible", "in_flight", "delayed"].iter().all(|jobs| depth[*jobs] == 0);
            empty_for = if empty { empty_for + 1 } else { 0 };
            empty_for == 60
        })
        .await;
    }

    async fn kept(&mut self) -> Kept {
        let mut kept = Kept::default();
        self.note_memory();
        let root = self.data_dir();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).expect("readable").map(|entry| entry.expect("readable").path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = fs::read(&path) {
                    find(&bytes, &mut kept);
                    let name = path.strip_prefix(&root).expect("below").to_str().expect("text").to_owned();
                    find(name.as_bytes(), &mut kept);
                    if let Some((bucket, key)) = name.strip_prefix("objects/").and_then(|name| name.split_once('/')) {
                        add_object(bucket, key, &mut kept);
                    }
                }
            }
        }
        kept
    }

    fn measured(&self) -> BTreeMap<String, f64> {
        self.measured.clone()
    }

    fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }
}

impl Drop for OneMachine {
    fn drop(&mut self) {
        // The workers are in the same process group.
        let _ = killpg(Pid::from_raw(self.server.id() as i32), Signal::SIGKILL);
        let _ = self.server.wait();
    }
}

/// A disk that is mounted in a namespace of its own, for as long as this process lives.
struct Disk {
    holder: Child,
}

impl Disk {
    fn mount(folder: &Path) -> Self {
        let script =
            r#"mkdir "$1/data" && mount -t tmpfs -o "size=$2,mode=700" none "$1/data" && echo && exec cat >/dev/null"#;
        let mut mounting = Command::new("unshare");
        mounting.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(folder).arg(DISK);
        let mut holder = mounting.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts");
        let out = holder.stdout.as_mut().expect("it is piped");
        std::io::Read::read_exact(out, &mut [0]).expect("the disk is mounted");
        Self { holder }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Returns the data folder, as this process sees it.
fn data_dir(disk: Option<&Disk>, folder: &Path) -> PathBuf {
    let path = folder.join("data");
    let Some(disk) = disk else { return path };
    let inside = path.strip_prefix("/").expect("an absolute path");
    Path::new(&format!("/proc/{}/root", disk.holder.id())).join(inside)
}

fn command(disk: Option<&Disk>, folder: &Path, port: u16, clock: &Clock, arguments: &[&str]) -> Command {
    let mut command = match disk {
        None => Command::new(program()),
        Some(disk) => {
            let mut command = Command::new("nsenter");
            command.args(["--preserve-credentials", "-U", "-m", "-t", &disk.holder.id().to_string()]);
            // The working directory is lost on the way.
            command.args(["sh", "-c", r#"cd "$1" && shift && exec "$@""#, "sh"]);
            command.arg(std::env::current_dir().expect("a working directory")).arg(program());
            command
        }
    };
    command
        .args(arguments)
        .env("ROLLCALL__LOCAL__DATA_DIR", folder.join("data"))
        // Only a disk that is really full shows what happens then.
        .env("ROLLCALL__LOCAL__MIN_FREE", "0B")
        .env("ROLLCALL__HTTP__LISTEN", format!("127.0.0.1:{port}"))
        .env("ROLLCALL__HTTP__DEADLINE", "15s")
        .env("ROLLCALL__FLEET__MAX_INSTANCES", CAP.to_string())
        .env("ROLLCALL__WORKER__IDLE_STOP", "10s")
        // Killing workers again and again is no property of the job.
        .env("ROLLCALL__QUEUE__MAX_RECEIVES", "1000")
        // So that the photo of a face, in some of the uploads, goes through the store.
        .env("ROLLCALL__QUEUE__INLINE_LIMIT", "64KiB")
        .env("ROLLCALL__LOG__LEVEL", "error")
        .envs(clock.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null());
    command
}

fn spawn(mut command: Command) -> Child {
    command.process_group(0).stdout(Stdio::null()).spawn().expect("the program starts")
}

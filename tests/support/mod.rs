//! A `rollcall up` of a test's own: free port, own data folder, ended with the test.
#![allow(dead_code)] // each test program uses its part

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// The built program.
const ROLLCALL: &str = env!("CARGO_BIN_EXE_rollcall");

/// A sample photo of `.assets/photos`.
pub fn photo(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".assets/photos").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run `make setup`", path.display()))
}

/// Looks until it is so; the one place where tests wait.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so().await {
        assert!(Instant::now() < deadline, "still not so after a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct Rollcall {
    child: Child,
    dir: TempDir,
    port: u16,
    env: Vec<(&'static str, &'static str)>,
}

impl Rollcall {
    /// Enrolls the sample people and serves, with settings of the environment's form.
    pub async fn start(env: &[(&'static str, &'static str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let enrolled =
            command(dir.path(), port, env).args(["enroll", ".assets/photos/known"]).output().expect("enroll");
        assert!(enrolled.status.success(), "{}", String::from_utf8_lossy(&enrolled.stderr));
        let child = up(dir.path(), port, env);
        let mut server = Self { child, dir, port, env: env.to_vec() };
        server.ready().await;
        server
    }

    async fn ready(&mut self) {
        let url = self.url("/readyz");
        until("ready", async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("rollcall ended with {status}:\n{}", self.log());
            }
            reqwest::get(&url).await.is_ok_and(|r| r.status().is_success())
        })
        .await;
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("test.log")).unwrap_or_default()
    }

    /// `kill -9` of the parent, then a new life on the same folder and port.
    pub async fn kill_and_restart(&mut self) {
        self.child.kill().expect("running");
        self.child.wait().expect("killed");
        self.child = up(self.dir.path(), self.port, &self.env);
        self.ready().await;
    }

    pub async fn get(&self, path: &str) -> Value {
        reqwest::get(self.url(path)).await.expect("an answer").json().await.expect("JSON")
    }

    /// Process ids of the workers that run.
    pub async fn workers(&self) -> Vec<u64> {
        let fleet = self.get("/v1/fleet").await;
        fleet["instances"].as_array().into_iter().flatten().filter_map(|i| i["pid"].as_u64()).collect()
    }

    /// Posts a photo as a form does.
    pub async fn post(&self, path: &str, name: &str, bytes: Vec<u8>) -> reqwest::Response {
        let part = reqwest::multipart::Part::bytes(bytes).file_name(name.to_owned());
        let form = reqwest::multipart::Form::new().part("myfile", part);
        reqwest::Client::new().post(self.url(path)).multipart(form).send().await.expect("an answer")
    }
}

impl Drop for Rollcall {
    fn drop(&mut self) {
        let _ = self.child.kill(); // workers end with their parent
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
    }
}

fn command(dir: &Path, port: u16, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(ROLLCALL);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.env("ROLLCALL__LOCAL__DATA_DIR", dir).env("ROLLCALL__HTTP__LISTEN", format!("127.0.0.1:{port}"));
    command.envs(env.iter().copied());
    command
}

fn up(dir: &Path, port: u16, env: &[(&str, &str)]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("test.log")).expect("a log file");
    let mut command = command(dir, port, env);
    command.arg("up").stdout(log.try_clone().expect("the same file")).stderr(log);
    command.spawn().expect("rollcall starts")
}

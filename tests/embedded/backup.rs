//! A fire drill: a backup of a running server is everything that is needed when its data folder is gone.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rollcall_testing::http::Client;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const UNTIL: Duration = Duration::from_secs(90);
const DATA_DIR: &str = "ROLLCALL__LOCAL__DATA_DIR";

fn succeeded(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).expect("text").trim().to_owned()
}

/// A client with a token.
#[derive(Clone)]
struct Caller {
    base: String,
    token: String,
}

impl Caller {
    async fn get(&self, path: &str) -> (u16, Value) {
        let request = Client::new().get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let response = request.send().await.expect("a response");
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    async fn status(&self, id: &str) -> Value {
        self.get(&format!("/v1/recognitions/{id}")).await.1["status"].clone()
    }

    /// Uploads an image whose client does not wait, and returns the id of the accepted job.
    async fn accept(&self) -> String {
        let request = Client::new().post(format!("{}/v1/recognitions", self.base)).header("Prefer", "respond-async");
        let request = request.bearer_auth(&self.token).multipart(form(&[("x.png", &faceless(64, 64))]));
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 202);
        response.json::<Value>().await.expect("JSON")["id"].as_str().expect("an id").to_owned()
    }

    /// Uploads until `end`; the ids of the accepted jobs are in the list.
    fn keep_uploading(&self, end: &Arc<AtomicBool>) -> (tokio::task::JoinHandle<()>, Arc<Mutex<Vec<String>>>) {
        let (caller, end, accepted) = (self.clone(), end.clone(), Arc::<Mutex<Vec<String>>>::default());
        let list = accepted.clone();
        let uploads = tokio::spawn(async move {
            while !end.load(Ordering::SeqCst) {
                let id = caller.accept().await;
                list.lock().expect("no panic").push(id);
            }
        });
        (uploads, accepted)
    }

    /// Waits until each of these jobs is done, and each of those is at least not pending any more.
    async fn all_end(&self, done: &[String], ended: &[String]) {
        for id in done {
            wait_until(&format!("job {id} is done"), UNTIL, async || self.status(id).await == "done").await;
        }
        for id in ended {
            let is_over = async || self.status(id).await != "pending";
            wait_until(&format!("job {id} is not pending"), UNTIL, is_over).await;
        }
    }
}

/// Checks that only their owner can read a folder and what is in it.
fn check_private(folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_restores_everything_that_was_accepted_before() {
    let mut server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let token = succeeded(&server.run(&["token", "create", "--role", "admin", "--label", "drill"]));
    let caller = Caller { base: server.url(""), token };
    server.set_env("ROLLCALL_TOKEN", Some(&caller.token));
    wait_until("the token is accepted", UNTIL, async || caller.get("/v1/people").await.0 == 200).await;

    let known = Client::new().post(server.url("/v1/recognitions")).bearer_auth(&caller.token);
    let known = known.multipart(form(&[("a.jpg", &photo(MACRON))])).send().await.expect("a response");
    let known: Value = known.json().await.expect("JSON");
    assert_eq!(known["label"], "Emmanuel_Macron");
    let known = format!("/v1/recognitions/{}", known["id"].as_str().expect("an id"));
    wait_until("the result is stored", UNTIL, async || caller.get(&known).await.0 == 200).await;
    let stored = caller.get(&known).await.1;
    let deleted = caller.accept().await;
    caller.all_end(std::slice::from_ref(&deleted), &[]).await;
    let deletion = Client::new().delete(server.url(&format!("/v1/recognitions/{deleted}"))).bearer_auth(&caller.token);
    assert_eq!(deletion.send().await.expect("a response").status(), 204);
    let people = caller.get("/v1/people").await.1["people"].clone();

    // No worker comes up any more, so that all further jobs stay in the queue.
    server.kill9();
    server.set_env("ROLLCALL__RECOGNITION__DETECTOR", Some("/nonexistent.onnx"));
    server.restart().await;
    let mut before = Vec::new();
    for _ in 0..20 {
        before.push(caller.accept().await);
    }
    let end = Arc::new(AtomicBool::new(false));
    let (uploads, during) = caller.keep_uploading(&end);
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("backup.tar");
    let path = |path: &PathBuf| path.to_str().expect("text").to_owned();
    let printed = succeeded(&server.run(&["backup", &path(&file)]));
    assert!(printed.starts_with("backed up to "), "{printed}");
    end.store(true, Ordering::SeqCst);
    uploads.await.expect("uploaded");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 1, "nothing else is left");

    server.kill9();
    fs::remove_dir_all(server.data_dir()).expect("removed");
    server.set_env("ROLLCALL__RECOGNITION__DETECTOR", None);
    let folder = place.path().join("elsewhere/data");
    server.set_env(DATA_DIR, Some(&path(&folder)));
    let restored = succeeded(&server.run(&["restore", &path(&file)]));
    check_private(&folder);
    let during = during.lock().expect("no panic").clone();
    for lost in restored.lines().filter(|line| line.starts_with("lost: ")) {
        assert!(during.iter().any(|id| lost.contains(id)), "{lost}");
    }
    server.restart().await;
    assert_eq!(caller.get(&known).await.1, stored);
    assert_eq!(caller.get("/v1/people").await.1["people"], people);
    assert_eq!(caller.get(&format!("/v1/recognitions/{deleted}")).await.0, 404);
    let nobody = Caller { token: "rollcall_x".into(), ..caller.clone() };
    assert_eq!(nobody.get("/v1/people").await.0, 401);
    caller.all_end(&before, &during).await;
    let audited = succeeded(&server.run(&["audit"]));
    for entry in ["DELETE /v1/recognitions/{id}", "restore begun", "restore done"] {
        assert!(audited.contains(entry), "{entry} in {audited}");
    }

    // The same while workers do the jobs, and once more of the folder when nothing uses it.
    let end = Arc::new(AtomicBool::new(false));
    let (uploads, accepted) = caller.keep_uploading(&end);
    let live = place.path().join("live.tar");
    wait_until("jobs were accepted", UNTIL, async || accepted.lock().expect("no panic").len() > 20).await;
    let before = accepted.lock().expect("no panic").clone();
    succeeded(&server.run(&["backup", &path(&live)]));
    end.store(true, Ordering::SeqCst);
    uploads.await.expect("uploaded");
    let during = accepted.lock().expect("no panic")[before.len()..].to_vec();
    server.kill9();
    let stopped = place.path().join("stopped.tar");
    succeeded(&server.run(&["backup", &path(&stopped)]));

    for (backup, all) in [(&live, &before), (&stopped, &[before.clone(), during.clone()].concat())] {
        let folder = backup.with_extension("data");
        server.set_env(DATA_DIR, Some(&path(&folder)));
        succeeded(&server.run(&["restore", &path(backup)]));
        server.restart().await;
        caller.all_end(all, &during).await;
        assert_eq!(caller.get("/v1/people").await.1["people"], people);
        server.kill9();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let place = tempfile::tempdir().expect("a temporary folder");
    let file = place.path().join("backup.tar");
    let name = file.to_str().expect("text");
    succeeded(&server.run(&["backup", name]));
    server.kill9();
    let into_used = server.run(&["restore", name]);
    assert!(String::from_utf8_lossy(&into_used.stderr).contains("is not empty"));

    let folder = place.path().join("data");
    server.set_env(DATA_DIR, folder.to_str());
    let whole = fs::read(&file).expect("a backup");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &flipped] {
        fs::write(&file, damaged).expect("written");
        let refused = server.run(&["restore", name]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && stderr.contains("damaged or not complete"), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 1, "nothing is left");
    }

    fs::write(&file, &whole).expect("written");
    succeeded(&server.run(&["restore", name]));
    fs::write(folder.join("format"), "3\n").expect("written");
    for command in [&["up"][..], &["gallery", "list"], &["queue", "repair"], &["backup", name]] {
        let refused = server.run(command);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        let newer = "this folder was written by a newer Rollcall (format 3); this one knows up to 2: upgrade";
        assert!(!refused.status.success() && stderr.trim_end().ends_with(newer), "{command:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
    }
    assert_eq!(fs::read(&file).expect("a backup"), whole, "the backup from before is still there");
}

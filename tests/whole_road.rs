//! From the upload to the answer, with real worker processes: names are right, bad uploads are refused in words, the fleet
//! grows from nothing and goes away, and no accepted job is lost when processes are killed.

mod support;

use support::{Rollcall, photo, until};

const EMMANUEL: &str = "probes/Emmanuel_Macron/person_a_2.jpg";
const JACINDA: &str = "probes/Jacinda_Ardern/person_b_2.jpg";
const STRANGER: &str = "strangers/Barack_Obama/impostor_1.jpg";

#[tokio::test(flavor = "multi_thread")]
async fn people_are_named_and_strangers_are_not() {
    let server = Rollcall::start(&[]).await;
    assert!(server.workers().await.is_empty(), "the fleet starts from nothing");
    for (path, label) in [(EMMANUEL, "Emmanuel_Macron"), (JACINDA, "Jacinda_Ardern"), (STRANGER, "unknown")] {
        let answer = server.post("/", "same-name.jpg", photo(path)).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.expect("text"), label, "{path}");
    }
    assert!(!server.workers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_are_refused_in_words_and_the_next_good_one_works() {
    let server = Rollcall::start(&[("ROLLCALL__HTTP__MAX_UPLOAD", "1MiB")]).await;
    let mut cut = photo(EMMANUEL);
    cut.truncate(cut.len() / 2);
    for (name, bytes, status) in [
        ("text.jpg", b"this is no photo".to_vec(), 415),
        ("cut.jpg", cut, 422),
        ("large.jpg", vec![7; 3 << 20], 413),
        ("../../up.jpg", photo(EMMANUEL), 200),
    ] {
        let answer = server.post("/", name, bytes).await;
        assert_eq!(answer.status(), status, "{name}");
        assert!(!answer.text().await.expect("text").is_empty(), "{name}");
    }
    let empty = reqwest::Client::new().post(server.url("/")).send().await.expect("an answer");
    assert_eq!(empty.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_grows_under_load_within_its_cap_and_goes_away() {
    let server =
        Rollcall::start(&[("ROLLCALL__FLEET__MAX_INSTANCES", "2"), ("ROLLCALL__WORKER__IDLE_STOP", "2s")]).await;
    let uploads = (0..20).map(|i| {
        let (path, label) = [(EMMANUEL, "Emmanuel_Macron"), (JACINDA, "Jacinda_Ardern")][i % 2];
        let sent = server.post("/", "photo.jpg", photo(path));
        async move { assert_eq!(sent.await.text().await.expect("text"), label) }
    });
    futures_util::future::join_all(uploads).await;
    assert_eq!(server.workers().await.len(), 2, "{}", server.get("/v1/fleet").await);
    until("no worker is left", async || server.workers().await.is_empty()).await;
    let fleet = server.get("/v1/fleet").await;
    assert_eq!(fleet["depth"]["visible"], 0);
    assert!(fleet["story"].as_array().expect("a story").iter().any(|line| line["kind"] == "launch"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_jobs_survive_kills_of_workers_and_of_the_parent() {
    let mut server = Rollcall::start(&[]).await;
    let client = reqwest::Client::new();
    let mut ids = Vec::new();
    for i in 0..40 {
        let part = reqwest::multipart::Part::bytes(photo(EMMANUEL)).file_name(format!("{i}.jpg"));
        let form = reqwest::multipart::Form::new().part("myfile", part);
        let request = client.post(server.url("/v1/recognitions")).header("Prefer", "respond-async").multipart(form);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        ids.push(answer.json::<serde_json::Value>().await.expect("JSON")["id"].as_str().expect("an id").to_owned());
        if i % 15 == 14 {
            for pid in server.workers().await {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process id"));
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL); // it may have ended
            }
        }
    }
    let workers = server.workers().await;
    server.kill_and_restart().await;
    until("no worker outlives its parent", async || {
        workers.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}/exe")).exists())
    })
    .await;
    for id in ids {
        until("every accepted job is done", async || {
            let record = server.get(&format!("/v1/recognitions/{id}")).await;
            record["recognition"]["label"] == "Emmanuel_Macron" || record["label"] == "Emmanuel_Macron"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_added_over_http_is_known_at_once_and_forgotten_when_removed() {
    let server = Rollcall::start(&[]).await;
    let part = reqwest::multipart::Part::bytes(photo(STRANGER)).file_name("b.jpg");
    let form = reqwest::multipart::Form::new().text("name", "Barack Obama").part("photo", part);
    let client = reqwest::Client::new();
    let added = client.post(server.url("/v1/people")).multipart(form).send().await.expect("an answer");
    assert_eq!(added.status(), 201, "{}", added.text().await.unwrap_or_default());
    assert_eq!(server.post("/", "b.jpg", photo(STRANGER)).await.text().await.expect("text"), "Barack Obama");
    let removed = client.delete(server.url("/v1/people/Barack%20Obama")).send().await.expect("an answer");
    assert_eq!(removed.status(), 204);
    assert_eq!(server.post("/", "b.jpg", photo(STRANGER)).await.text().await.expect("text"), "unknown");
}

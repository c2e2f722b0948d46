//! What a client deletes does not come back: not if the deletion overtakes the storing of the result, not if the job is
//! done again after a crash, and not if the client repeats its request.

use std::{fs, path::Path};

use futures_util::future::join_all;
use rollcall_testing::http::Client;
use rollcall_testing::uploads::{MACRON, form, photo};
use rollcall_testing::{Rollcall, RollcallOptions};
use serde_json::Value;

/// Returns the size of every file below a folder.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => all.extend(files(&path)),
            Ok(meta) => all.push((path.display().to_string(), meta.len())),
            Err(_) => {} // deleted since
        }
    }
    all
}

/// Returns the photos and labels that are stored, and every result that is more than a tombstone.
fn kept(server: &Rollcall) -> Vec<(String, u64)> {
    let objects = server.data_dir().join("objects");
    let not_of_jobs = |path: &str| path.contains("/gallery/") || path.contains("/private/");
    let stored = |(path, size): &(String, u64)| !not_of_jobs(path) && (!path.contains("/recognitions/") || *size > 250);
    files(&objects).into_iter().filter(stored).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_deleted_right_after_the_response_does_not_come_back() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let photo = photo(MACRON);
    let clients = (0..8).map(|_| async {
        let client = Client::new();
        for _ in 0..8 {
            let request = client.post(server.url("/v1/recognitions")).multipart(form(&[("photo.jpg", &photo)]));
            let body: Value = request.send().await.expect("a response").json().await.expect("JSON");
            let url = server.url(&format!("/v1/recognitions/{}", body["id"].as_str().expect("an id")));
            assert_eq!(client.delete(&url).send().await.expect("a response").status(), 204);
            assert_eq!(client.get(&url).send().await.expect("a response").status(), 404);
        }
    });
    join_all(clients).await;
    // Jobs that have not left the queue are done again.
    server.kill9();
    server.restart().await;
    server.wait_until_queue_is_empty().await;
    assert_eq!(kept(&server), [], "of 64 deleted photos");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_key_of_a_deleted_result_is_410() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    let photo = photo(MACRON);
    let client = Client::new();
    let send = async |prefer: &'static str| {
        let request = client.post(server.url("/v1/recognitions")).header("Idempotency-Key", "order-7");
        request.header("Prefer", prefer).multipart(form(&[("a.jpg", &photo)])).send().await.expect("a response")
    };
    let body: Value = send("wait").await.json().await.expect("JSON");
    let id = body["id"].as_str().expect("an id");
    let url = server.url(&format!("/v1/recognitions/{id}"));
    assert_eq!(client.delete(&url).send().await.expect("a response").status(), 204);
    for prefer in ["wait", "respond-async"] {
        let response = send(prefer).await;
        assert_eq!(response.status(), 410, "{prefer}");
        let problem: Value = response.json().await.expect("JSON");
        assert_eq!(problem["id"], id);
        assert!(problem["detail"].as_str().expect("text").contains("another Idempotency-Key"), "{problem}");
    }
    server.wait_until_queue_is_empty().await;
    assert_eq!(kept(&server), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_has_left_is_deleted_at_the_next_start() {
    let mut server = Rollcall::start(RollcallOptions::default()).await;
    let client = Client::new();
    let photo = photo(MACRON);
    let request = client.post(server.url("/v1/recognitions")).multipart(form(&[("photo.jpg", &photo)]));
    assert_eq!(request.send().await.expect("a response").status(), 200);
    server.wait_until_queue_is_empty().await;
    let before = kept(&server);
    assert_eq!(before.len(), 3, "photo, label and result");
    server.kill9();

    // As a worker leaves them that is killed before it stores the result of a job that was lost with its parent, and a
    // web node that is killed before it sends an enrolment.
    let objects = server.data_dir().join("objects");
    let id = "01M864JVNGTP55MXPP8BHGACKE";
    for orphan in
        [format!("rollcall-input/{id}/x.jpg"), format!("rollcall-output/{id}/x"), format!("rollcall-state/claims/{id}")]
    {
        let path = objects.join(orphan);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, &photo).expect("written");
    }
    assert_eq!(kept(&server).len(), 6);
    server.restart().await;
    assert_eq!(kept(&server), before);
}

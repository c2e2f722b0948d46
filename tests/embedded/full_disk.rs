//! A full disk refuses uploads and loses none that was accepted; when there is room again, the server goes on by itself.

use std::{fs::File, io::Write as _, time::Duration};

use reqwest::Client;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, small_disks_work, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(120);

/// Uploads an image asynchronously. Returns the id of the job, or `None` if the upload is refused.
async fn upload(server: &Rollcall, client: &Client) -> Option<String> {
    let request = client.post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let response = request.multipart(form(&[("x.png", &faceless(64, 64))])).send().await.expect("a response");
    match response.status().as_u16() {
        202 => {
            let body: Value = response.json().await.expect("JSON");
            Some(body["id"].as_str().expect("an id").to_owned())
        }
        503 => {
            assert!(response.headers().contains_key("retry-after"));
            None
        }
        status => panic!("{status}: {}", response.text().await.unwrap_or_default()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_uploads_until_it_has_room_and_no_accepted_job_is_lost() {
    if !small_disks_work() {
        println!("SKIPPED: this user may not mount disks");
        return;
    }
    let server = Rollcall::start(RollcallOptions::default().env("ROLLCALL__LOCAL__MIN_FREE", "0B").disk("48m")).await;
    let client = Client::new();
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.extend(upload(&server, &client).await);
    }
    assert_eq!(accepted.len(), 5);

    let filler = server.mounted_data_dir().join("filler");
    let mut file = File::create(&filler).expect("created");
    let full = std::iter::repeat_with(|| file.write_all(&[7; 4096])).find_map(Result::err).expect("the disk is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // Until the queue's file cannot be written either.
    let mut refused = 0;
    wait_until("uploads are refused", TIMEOUT, async || {
        match upload(&server, &client).await {
            Some(id) => accepted.push(id),
            None => refused += 1,
        }
        refused >= 20
    })
    .await;

    drop(file);
    std::fs::remove_file(filler).expect("removed");
    wait_until("uploads are accepted again", TIMEOUT, async || {
        let id = upload(&server, &client).await;
        let is_accepted = id.is_some();
        accepted.extend(id);
        is_accepted
    })
    .await;
    for id in accepted {
        let url = server.url(&format!("/v1/recognitions/{id}"));
        wait_until("an accepted job is done", TIMEOUT, async || {
            let result: Value = reqwest::get(&url).await.expect("a response").json().await.expect("JSON");
            result["status"] == "done"
        })
        .await;
    }
}

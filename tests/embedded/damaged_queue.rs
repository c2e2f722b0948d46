//! After damage to the queue's file, the server refuses to start with the remedy, and the remedy works.

use std::{fs, time::Duration};

use rollcall_testing::http::Client;
use rollcall_testing::uploads::{faceless, form};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const JOBS: usize = 40;

async fn job(server: &Rollcall, id: &str) -> Value {
    let response =
        rollcall_testing::http::get(server.url(&format!("/v1/recognitions/{id}"))).await.expect("a response");
    response.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_repair_each_accepted_job_is_done_or_reported_as_lost() {
    // No worker comes up, so that all jobs stay in the queue.
    let broken = RollcallOptions::default().env("ROLLCALL__RECOGNITION__DETECTOR", "/nonexistent.onnx");
    let mut server = Rollcall::start(broken).await;
    let client = Client::new();
    let mut accepted = Vec::new();
    for _ in 0..JOBS {
        let request = client.post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
        let response = request.multipart(form(&[("x.png", &faceless(64, 64))])).send().await.expect("a response");
        assert_eq!(response.status(), 202);
        let body: Value = response.json().await.expect("JSON");
        accepted.push(body["id"].as_str().expect("an id").to_owned());
    }
    server.kill9();

    // A page with the body of one of the jobs.
    let file = server.data_dir().join("queues.redb");
    let mut bytes = fs::read(&file).expect("a file");
    let id: u128 = accepted[JOBS / 2].parse::<ulid::Ulid>().expect("an id").0;
    let places: Vec<usize> = (0..bytes.len() - 16).filter(|&at| bytes[at..at + 16] == id.to_le_bytes()).collect();
    assert!(!places.is_empty(), "the job is in the file");
    places.into_iter().for_each(|at| bytes[at + 8..at + 16].fill(0xff));
    fs::write(&file, bytes).expect("written");

    let refused = server.run(&["up"]);
    let stderr = String::from_utf8(refused.stderr).expect("text");
    assert!(!refused.status.success());
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("rollcall queue repair") && stderr.contains("queues.redb"), "{stderr}");

    let repaired = server.run(&["queue", "repair"]);
    let (stdout, stderr) =
        (String::from_utf8(repaired.stdout).expect("text"), String::from_utf8_lossy(&repaired.stderr));
    assert!(repaired.status.success() && stderr.is_empty(), "{stdout}{stderr}");
    let lost: Vec<&String> = accepted.iter().filter(|id| stdout.contains(*id)).collect();
    assert!(lost.contains(&&accepted[JOBS / 2]) && lost.len() < JOBS / 2, "{stdout}");
    assert!(fs::exists(file.with_extension("damaged-1")).expect("readable"), "{stdout}");
    let again = server.run(&["queue", "repair"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("not damaged"));

    server.set_env("ROLLCALL__RECOGNITION__DETECTOR", None);
    server.restart().await;
    for id in &accepted {
        let expected = if lost.contains(&id) { "failed" } else { "done" };
        wait_until(&format!("job {id} is {expected}"), Duration::from_secs(90), async || {
            job(&server, id).await["status"] == expected
        })
        .await;
    }
}

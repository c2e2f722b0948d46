//! The history of the fleet survives a restart, and a damaged file is no reason not to start.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use rollcall_testing::uploads::{MACRON, form, photo, post, problem};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);

async fn history(server: &Rollcall, query: &str) -> Value {
    let response =
        rollcall_testing::http::get(server.url(&format!("/v1/fleet/history?{query}"))).await.expect("a response");
    response.json().await.expect("JSON")
}

fn sum(history: &Value, column: &str) -> f64 {
    let column = history["points"][column].as_array().expect(column);
    column.iter().filter_map(Value::as_f64).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_survives_a_restart_and_begins_anew_if_its_file_is_damaged() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("log");
    let mut server = Rollcall::start(RollcallOptions::default().log(&log)).await;
    let recognised = post(&server.url("/v1/recognitions"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(recognised.status(), 200);
    let broken = post(&server.url("/v1/recognitions"), form(&[("b.txt", b"text")])).await;
    assert_eq!(problem(broken).await["status"], 415);
    let has_run = async || {
        let seen = history(&server, "range=15m").await;
        sum(&seen, "running") > 0.0 && sum(&seen, "cost") > 0.0
    };
    wait_until("the worker is in the history", TIMEOUT, has_run).await;
    let before = history(&server, "range=14d").await;
    // The text was refused before it became a job.
    assert_eq!(["uploads", "answers", "failures"].map(|column| sum(&before, column)), [1.0, 1.0, 0.0]);
    for stage in before["points"]["latency"].as_array().expect("stages") {
        let p99 = stage["p99"][0].as_f64().expect("a time");
        let is_timed = ["total", "queue", "decode", "detect", "embed"].iter().any(|name| stage["stage"] == *name);
        assert!(!is_timed || p99 > 0.0, "{stage}");
    }
    let decisions = before["decisions"].as_array().expect("decisions").clone();
    assert_eq!(decisions[0]["kind"], "launch");
    assert!(decisions[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{decisions:?}");

    server.stop().await;
    let path = server.data_dir().join("fleet-history.bin");
    let metadata = path.metadata().expect("the history was kept");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(metadata.len() < 2 << 20, "{}", metadata.len());
    let stored = fs::read(&path).expect("a file");
    assert!(!stored.windows(6).any(|part| part == b"Macron"), "it has no names of people");
    server.restart().await;
    let after = history(&server, "range=14d").await;
    assert_eq!(after["since_ms"], before["since_ms"]);
    assert!(after["cost"].as_f64() >= before["cost"].as_f64(), "{} {}", after["cost"], before["cost"]);
    assert_eq!(["uploads", "answers"].map(|column| sum(&after, column)), [1.0, 1.0]);
    assert_eq!(after["decisions"][0], decisions[0]);

    server.stop().await;
    let kept = fs::read(&path).expect("a file");
    fs::write(&path, &kept[..kept.len() / 2]).expect("written");
    server.restart().await;
    let anew = async || history(&server, "range=15m").await["since_ms"].as_u64() > before["since_ms"].as_u64();
    wait_until("it begins anew", TIMEOUT, anew).await;
    assert_eq!(sum(&history(&server, "range=14d").await, "uploads"), 0.0);
    let log = fs::read_to_string(&log).expect("a log");
    assert_eq!(log.matches("the history of the fleet cannot be read").count(), 1, "{log}");
}

#[tokio::test]
async fn a_request_for_the_history_is_checked() {
    let server = Rollcall::start(RollcallOptions::default()).await;
    for query in ["", "range=1h", "range=15m&from=-1", "range=15m&from=x", "range=15m&step=2", "from=1"] {
        let response =
            rollcall_testing::http::get(server.url(&format!("/v1/fleet/history?{query}"))).await.expect("a response");
        assert_eq!(problem(response).await["status"], 400, "{query}");
    }
    let later = history(&server, "range=15m&from=18446744073709551615").await;
    assert_eq!((&later["points"]["at_s"], &later["decisions"]), (&Value::Array(vec![]), &Value::Array(vec![])));
}

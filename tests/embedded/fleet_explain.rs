//! Why seven instances, and why did this one stop? Every launch, start, stop and termination of a running Rollcall is
//! explained with the inputs of the decision, and a replay of the event log makes the same decisions.

use std::{process::Command, time::Duration};

use rollcall_testing::uploads::{faceless, form, post};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn decisions(server: &Rollcall) -> Vec<Value> {
    let response = rollcall_testing::http::get(server.url("/v1/fleet/decisions")).await.expect("the server responds");
    response.json().await.expect("a list")
}

fn of_kind<'a>(decisions: &'a [Value], kind: &str) -> Vec<&'a Value> {
    decisions.iter().filter(|d| d["kind"] == kind).collect()
}

fn run(args: &[&str]) -> String {
    let output = Command::new(rollcall_testing::program()).args(args).output().expect("the program starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_explained_and_a_replay_repeats_the_decisions() {
    let options = RollcallOptions::default()
        .env("ROLLCALL__FLEET__MAX_INSTANCES", "1")
        .env("ROLLCALL__FLEET__SWEEP_EVERY", "8s")
        .env("ROLLCALL__WORKER__IDLE_STOP", "1s");
    let server = Rollcall::start(options).await;
    let upload =
        async || assert_eq!(post(&server.url("/"), form(&[("a.png", &faceless(320, 240))])).await.status(), 200);
    upload().await;
    wait_until("the worker stops itself", TIMEOUT, async || !of_kind(&decisions(&server).await, "stop").is_empty())
        .await;
    upload().await; // a warm start, or a new instance if it was swept just now
    wait_until("the stopped one is swept", TIMEOUT, async || {
        !of_kind(&decisions(&server).await, "terminate").is_empty()
    })
    .await;

    let decisions = decisions(&server).await;
    let launch = of_kind(&decisions, "launch")[0];
    let id = launch["instances"][0].as_str().expect("the launched instance");
    assert_eq!(
        (&launch["inputs"]["demand"], &launch["inputs"]["target"], &launch["count"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!((&launch["inputs"]["cap"], &launch["inputs"]["policy"]), (&1.into(), &"deadline".into()));
    let stop = of_kind(&decisions, "stop")[0];
    assert_eq!(stop["instances"][0], id);
    assert!(stop["reason"].as_str().expect("a reason").contains("worker.idle_stop"), "{stop}");
    for decision in &decisions {
        assert!(!decision["reason"].as_str().expect("a reason").is_empty() && decision["at_ms"].as_u64() > Some(0));
        assert!(decision["instances"].as_array().is_some_and(|ids| !ids.is_empty()), "{decision}");
    }

    let explanation = run(&["fleet", "explain", id, "--url", &server.url("")]);
    assert!(explanation.contains("launch 1: demand 1") && explanation.contains(id), "{explanation}");

    // A replay of the events makes every decision so far again.
    let log = server.data_dir().join("fleet.jsonl");
    let log = log.to_str().expect("UTF-8");
    wait_until("the event log has it all", TIMEOUT, async || {
        let epochs: Vec<Vec<Value>> = serde_json::from_str(&run(&["fleet", "replay", log, "--json"])).expect("JSON");
        epochs.len() == 1 && epochs[0].len() >= decisions.len() && epochs[0][..decisions.len()] == decisions
    })
    .await;
    let other = run(&["fleet", "replay", log, "--policy", "one-per-job"]);
    assert!(other.contains("decisions by one-per-job"), "{other}");
}

//! The example's job, which is not a recognition, runs on the embedded cloud: from no instances to a result, and back
//! to none.

use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

#[test]
fn a_job_of_another_kind_runs_on_worker_processes_from_nothing_and_back() {
    let data = tempfile::tempdir().expect("a temporary folder");
    let files = ["Cargo.toml", "README.md", "Cargo.lock"];
    let output = Command::new(rollcall_testing::example("checksum"))
        .arg("sum")
        .args(files)
        .env("ROLLCALL__LOCAL__DATA_DIR", data.path())
        .env("ROLLCALL__WORKER__IDLE_STOP", "1s")
        .output()
        .expect("the example runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for file in files {
        let digest = Sha256::digest(std::fs::read(file).expect("readable"));
        let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(text.lines().any(|line| line.contains(&sum) && line.ends_with(file)), "{file}: {text}");
    }
    // The controller's event log shows the fleet over time: first no instances, then workers, and in the end none that
    // the program had to stop.
    let log = std::fs::read_to_string(data.path().join("fleet.jsonl")).expect("an event log");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let described: Vec<Vec<String>> = lines
        .filter_map(|line| {
            let instances = line["event"]["event"]["Described"]["result"]["Ok"].as_array()?.clone();
            Some(instances.iter().map(|i| i["state"].as_str().expect("a state").to_owned()).collect())
        })
        .collect();
    assert!(described.first().is_some_and(Vec::is_empty), "nothing runs before the first job: {described:?}");
    assert!(described.iter().flatten().any(|state| state == "running"), "a worker ran: {described:?}");
    let last = described.last().expect("a description");
    assert!(!last.is_empty() && last.iter().all(|state| state == "stopped" || state == "terminated"), "{described:?}");
}

//! `rollcall tune`: what it promises is what `rollcall simulate` reports, and what it chooses is better on days that it
//! has not seen.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::simulation::settings;
use rollcall::{
    cloud::InstanceId,
    fleet::{Event, Timestamp, event_log::EventEncoder},
    simulator::{ControllerKind, Report, Trace, simulate},
};

fn rollcall(args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_rollcall")).args(args).output().expect("the program starts");
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

fn json(args: &[&str]) -> Value {
    serde_json::from_slice(&rollcall(&[args, &["--json"]].concat())).expect("JSON")
}

fn path(dir: &Path, name: &str) -> String {
    dir.join(name).to_str().expect("a path of text").to_owned()
}

#[test]
fn the_written_file_does_what_was_promised_and_keeps_the_other_settings() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [present, output, page] = ["present.toml", "tuned.toml", "page.html"].map(|name| path(dir.path(), name));
    std::fs::write(&present, "[fleet]\nmax_instances = 7\nkeep_stopped = 7\n[simulate]\nservice = \"1s\"\n")
        .expect("writable");
    let args = ["--config", &present, "tune", "periodic", "--tries", "40", "--wait-price", "0.05", "--seed", "3"];
    let tuned = json(&[&args[..], &["--output", &output, "--html", &page]].concat());

    let runs = json(&["simulate", "--trace", "periodic", "--seed", "3", "--compare", &present, &output]);
    for (run, trial) in [(&runs[0], &tuned["present"]), (&runs[1], &tuned["chosen"])] {
        assert_eq!((&run["cost"], &run["wait_s"]["p99"]), (&trial["cost"], &trial["p99_s"]));
        assert_eq!(run["waiting_hours"], trial["waiting_hours"]);
    }
    let score = |trial: &Value| {
        trial["cost"].as_f64().unwrap_or_default() + 0.05 * trial["waiting_hours"].as_f64().unwrap_or_default()
    };
    assert!(score(&tuned["chosen"]) < score(&tuned["present"]), "{tuned}");
    let text = std::fs::read_to_string(&output).expect("it was written");
    assert!(text.contains("max_instances = 7") && text.contains("service = \"1s\""), "{text}");
    assert!(
        text.contains("0.05 $ per job-hour")
            && text.contains(&format!("{:.4} $", tuned["chosen"]["cost"].as_f64().expect("a cost"))),
        "{text}"
    );

    assert!(tuned["rejected"].as_u64() > Some(0), "more stopped instances than there may be are not allowed");
    let tried = tuned["tried"].as_u64().expect("a number") + tuned["rejected"].as_u64().expect("a number");
    assert_eq!(tried, 40);
    let frontier = tuned["frontier"].as_array().expect("a list");
    let points: Vec<[f64; 2]> =
        frontier.iter().map(|t| ["cost", "p99_s"].map(|key| t[key].as_f64().expect("a number"))).collect();
    assert!(points.len() > 1 && points.windows(2).all(|p| p[0][0] <= p[1][0] && p[0][1] > p[1][1]), "{points:?}");

    let page = std::fs::read_to_string(&page).expect("it was written");
    assert!(page.contains("\"chosen\":true") && page.contains("\"present\":true"), "the points are in the page");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="), "nothing is loaded");
}

#[test]
fn a_p99_picks_the_cheapest_configuration_that_holds_it() {
    let tuned = json(&["tune", "on-off", "--tries", "40", "--p99", "25s"]);
    let chosen = &tuned["chosen"];
    assert!(chosen["p99_s"].as_f64() <= Some(25.0), "{tuned}");
    let cheaper =
        tuned["frontier"].as_array().expect("a list").iter().filter(|t| t["cost"].as_f64() < chosen["cost"].as_f64());
    let slower = cheaper.filter(|t| t["p99_s"].as_f64() > Some(25.0)).count();
    assert!(slower > 0, "a cheaper one is slower: {tuned}");
}

/// Each seed is a day. The choice of one day is judged on the next.
#[test]
fn the_choice_of_one_day_is_better_on_the_next() {
    const PRICE: f64 = 0.1;
    let mut better = Vec::new();
    let count = |better: &[bool]| better.iter().filter(|better| **better).count();
    for day in 1..=10 {
        let tuned = json(&["tune", "poisson", "--tries", "60", "--wait-price", "0.1", "--seed", &day.to_string()]);
        let chosen = tuned["chosen"]["settings"].as_object().expect("settings");
        let keys: Vec<(String, String)> = chosen
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().expect("text").trim_matches('"').to_owned()))
            .collect();
        let keys: Vec<(&str, &str)> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let next = |keys: &[(&str, &str)]| {
            let parameters = rollcall::cli::simulate::parameters(&settings(None, keys));
            let trace = Trace::named("poisson", parameters.cloud.service, day + 500).expect("a trace");
            let report: Report = simulate(&parameters, ControllerKind::Fleet, &trace, day + 500).report;
            report.cost + PRICE * report.waiting_hours
        };
        better.push(next(&keys) < next(&[]));
        // Eight of ten: the rest decides nothing any more.
        if count(&better) == 8 {
            break;
        }
    }
    assert!(count(&better) >= 8, "{better:?}");
}

#[test]
fn the_record_of_a_fleet_is_enough() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let [record, csv] = ["fleet.jsonl", "arrivals.csv"].map(|name| path(dir.path(), name));
    let rules = settings(None, &[]).fleet_rules(std::time::Duration::from_secs(1_700_000_000));
    let mut encoder = EventEncoder::default();
    let mut log = EventEncoder::epoch(1, &rules);
    let mut add = |at: u64, event| log += &encoder.event(Timestamp::new(std::time::Duration::from_millis(at)), &event);
    for n in 0..200 {
        let worker = InstanceId("i-1".into());
        add(n * 30_000, Event::Hint { waiting: 1 });
        add(n * 30_000 + 800, Event::Served { worker, jobs: 1, busy: std::time::Duration::from_millis(750) });
    }
    std::fs::write(&record, log).expect("writable");

    let trace = String::from_utf8(rollcall(&["fleet", "trace", &record])).expect("text");
    assert_eq!(trace.lines().count(), 201);
    assert_eq!(trace.lines().take(3).collect::<Vec<_>>(), ["seconds,service", "0,0.75", "30,0.75"]);
    std::fs::write(&csv, trace).expect("writable");
    let [of_record, of_csv] = [&record, &csv].map(|input| json(&["tune", input, "--tries", "10"]));
    assert_eq!(of_record["requests"], 200);
    assert_eq!(of_record["frontier"], of_csv["frontier"]);
}

//! `rollcall simulate`: the documented figures, traces from files, and errors that say what to do.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn simulate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.arg("simulate").args(args).output().expect("the program starts")
}

/// Returns the runs of `--json`.
fn runs(args: &[&str]) -> Vec<Value> {
    let out = simulate(&[args, &["--json"]].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("a list")
}

/// Returns the only run of `--json`.
fn one_run(args: &[&str]) -> Value {
    let mut runs = runs(args);
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

fn error(args: &[&str]) -> (Option<i32>, String) {
    let out = simulate(args);
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn written(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("writable");
    path.to_str().expect("a path of text").to_owned()
}

#[test]
fn the_json_report_has_every_figure() {
    let r = one_run(&["--trace", "report-30", "--policy", "one-per-job", "--warm", "3"]);
    for key in ["makespan_s", "billed_instance_s", "stopped_hours", "cost", "simulated_s"] {
        assert!(r[key].as_f64().is_some_and(|n| n > 0.0), "{key}: {}", r[key]);
    }
    for times in ["wait_s", "end_to_end_s"] {
        let [p50, p90, p99, max] = ["p50", "p90", "p99", "max"].map(|q| r[times][q].as_f64().expect("seconds"));
        assert!(0.0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= max, "{times}: {}", r[times]);
    }
    assert_eq!((r["requests"].as_u64(), r["completed"].as_u64()), (Some(30), Some(30)));
    assert_eq!((r["starts"].as_u64(), r["policy"].as_str()), (Some(3), Some("one-per-job")));
    let launches = r["launches"].as_u64().expect("a count");
    assert_eq!(r["peak_instances"].as_u64(), Some(launches + 3));
    assert!(
        r["billed_instance_s"].as_f64() >= Some(60.0 * (launches + 3) as f64),
        "a start is billed for at least a minute"
    );
    for kind in ["launch", "start", "stop", "describe", "depth", "send", "receive", "delete"] {
        assert!(r["api_calls"][kind].as_u64().is_some_and(|n| n > 0), "{kind}: {}", r["api_calls"]);
    }
    for key in ["terminations", "throttles", "capacity_errors"] {
        assert!(r[key].is_u64(), "{key}: {}", r[key]);
    }
    let parts = r["cost_parts"].as_object().expect("parts").values().filter_map(Value::as_f64).sum::<f64>();
    assert!((parts - r["cost"].as_f64().expect("money")).abs() < 1e-5);
}

#[test]
fn the_documented_fields_are_those_of_the_json_report() {
    let document = std::fs::read_to_string("docs/simulator.md").expect("the document is there");
    let table = document.split("<!-- fields -->").nth(1).and_then(|rest| rest.split("<!-- /fields -->").next());
    let mut documented: Vec<&str> = table.expect("a table of fields").split('`').skip(1).step_by(2).collect();
    let report = one_run(&["--trace", "report-3"]);
    let mut fields = Vec::new();
    for (name, value) in report.as_object().expect("an object") {
        fields.push(name.as_str());
        fields.extend(value.as_object().into_iter().flat_map(|parts| parts.keys().map(String::as_str)));
    }
    documented.sort_unstable();
    fields.sort_unstable();
    documented.dedup();
    fields.dedup();
    assert_eq!(documented, fields);
}

#[test]
fn arrivals_and_service_times_come_from_a_file() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let trace = written(dir.path(), "t.csv", "time,service\n90,2.5\n\n# a second later\n91\n0,7\n");
    let r = one_run(&["--trace", &trace]);
    assert_eq!(r["requests"].as_u64(), Some(3));
    let end_to_end = r["end_to_end_s"]["max"].as_f64().expect("seconds");
    assert!(end_to_end > 7.0 + 15.0, "a boot and 7 s of work: {end_to_end}");
    let makespan = r["makespan_s"].as_f64().expect("seconds");
    assert!(makespan > 91.0, "the last job arrives after 91 s: {makespan}");
}

#[test]
fn runs_are_compared_side_by_side() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let a = written(dir.path(), "a.toml", "[fleet]\npolicy = \"deadline\"\n[simulate]\nboot_cold = \"100s\"\n");
    let b = written(dir.path(), "b<&>.toml", "[fleet]\npolicy = \"one-per-job\"\n");
    let page = dir.path().join("page.html");
    let page_path = page.to_str().expect("a path of text");
    let args = ["--trace", "report-10", "--compare", &a, &b, "--html", page_path];
    let compared = runs(&args);
    assert_eq!(
        compared.iter().map(|r| r["policy"].as_str().expect("a name")).collect::<Vec<_>>(),
        ["deadline", "one-per-job"]
    );
    assert!(compared[0]["makespan_s"].as_f64() > Some(80.0), "its own cloud");
    let page = std::fs::read_to_string(&page).expect("the page was written");
    let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next()).expect("the data");
    let data: Value = serde_json::from_str(data).expect("JSON");
    let names: Vec<&str> = data["runs"].as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert!(names[0].contains("deadline") && names[1].contains("b<&>.toml"), "{names:?}");
    assert_eq!(data["runs"][0]["figures"][0], compared[0]["cost"]);
    assert!(!page.contains("http://") && !page.contains("https://"), "nothing is loaded");

    let same = runs(&[&args[..], &["--same-cloud", "--policy", "cooldown-loop"]].concat());
    assert_eq!(same.len(), 3);
    assert!(same[1]["makespan_s"].as_f64() < Some(60.0), "the main configuration's cloud");
}

#[test]
fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (code, text) = error(&["--trace", "nothing-such"]);
    assert!(code == Some(1) && text.contains("nothing-such") && text.contains("bursty"), "{text}");
    let (_, text) = error(&["--trace", "report-0"]);
    assert!(text.contains("report-N"), "{text}");
    let (code, text) = error(&["--trace", "poisson", "--policy", "fastest"]);
    assert!(code == Some(78) && text.contains("fleet.policy") && text.contains("deadline"), "{text}");
    let bad = written(dir.path(), "bad.csv", "time\n1\n-5,1\n");
    let (_, text) = error(&["--trace", &bad]);
    assert!(text.contains("bad.csv, line 3") && text.contains("arrival is \"-5\""), "{text}");
    let bad = written(dir.path(), "service.csv", "1,NaN\n");
    let (_, text) = error(&["--trace", &bad]);
    assert!(text.contains("line 1") && text.contains("service time is \"NaN\""), "{text}");
    let (_, text) = error(&["--trace", &written(dir.path(), "empty.csv", "time\n")]);
    assert!(text.contains("no arrivals"), "{text}");
    let bad = written(dir.path(), "bad.toml", "[simulate]\nboot_cold = \"25\"\n");
    let (code, text) = error(&["--trace", "poisson", "--compare", &bad]);
    assert!(code == Some(78) && text.contains("simulate.boot_cold"), "{text}");
}

//! The default policy with its thresholds is better than the rule it started from and than a common control loop, in
//! latency and in cost at once; and the table in the documentation is what the command writes.

#[path = "support/simulation.rs"]
mod simulation;

use std::process::Command;

use rollcall::{
    cloud::sim::{Contender, Report},
    settings::Policy,
};
use simulation::{report, settings};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

#[test]
fn the_default_beats_the_report_and_the_control_loop_on_bursts() {
    let default = settings(None, &[]);
    let rule = settings(None, &[("fleet.policy", "report")]);
    let mut design = settings(Some("config/report.toml"), &[]);
    design.simulate = default.simulate.clone(); // in the same cloud
    assert_ne!(default.fleet.policy, Policy::Report);
    for seed in SEEDS {
        let run = |settings, contender| report(settings, contender, "bursty", seed);
        let ours = run(&default, Contender::Fleet);
        let better = |name: &str, theirs: Report| {
            let (p99, cost) = (ours.wait_s.p99, ours.cost);
            assert!(p99 < theirs.wait_s.p99, "seed {seed}: p99 wait {p99} s, {name} {} s", theirs.wait_s.p99);
            assert!(cost < theirs.cost, "seed {seed}: cost {cost}, {name} {}", theirs.cost);
        };
        better("the rule `report`", run(&rule, Contender::Fleet));
        better("the design of config/report.toml", run(&design, Contender::Fleet));
        better("the control loop", run(&default, Contender::CooldownLoop));
    }
}

/// As `make policies` does.
#[test]
fn the_table_in_the_documentation_is_what_the_command_writes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let copy = dir.path().join("simulator.md");
    std::fs::copy("docs/simulator.md", &copy).expect("the document is there");
    let out = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["simulate", "--trace", "bursty", "--policy", "deadline", "--policy", "backlog", "--policy", "report"])
        .args(["--policy", "cooldown-loop", "--compare", "config/report.toml", "--same-cloud", "--update"])
        .arg(&copy)
        .output()
        .expect("the program starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let (old, new) = ["docs/simulator.md".as_ref(), copy.as_path()]
        .map(|file: &std::path::Path| std::fs::read_to_string(file).expect("readable"))
        .into();
    assert_eq!(old, new, "run `make policies`");
}

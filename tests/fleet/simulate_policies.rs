//! The default policy has lower latency and lower cost than `one-per-job`, than the design that this policy comes from,
//! and than a common control loop; `backlog` is cheaper and slower; and the table in the documentation is what the
//! command writes.

use std::process::Command;

use crate::simulation::{report, settings};
use rollcall::{
    settings::Policy,
    simulator::{ControllerKind, Report},
};

/// The thresholds were chosen on seeds 1 to 5, which therefore prove nothing.
const FRESH_SEEDS: std::ops::RangeInclusive<u64> = 101..=115;

#[test]
fn the_default_beats_one_per_job_and_the_control_loop_on_bursts() {
    let default = settings(None, &[]);
    let one_per_job = settings(None, &[("fleet.policy", "one-per-job")]);
    let mut design = settings(Some("config/report.toml"), &[]);
    design.simulate = default.simulate.clone(); // in the same cloud
    assert_ne!(default.fleet.policy, Policy::OnePerJob);
    let mut lost = Vec::new();
    for seed in FRESH_SEEDS {
        let run = |settings, kind| report(settings, kind, "bursty", seed);
        let ours = run(&default, ControllerKind::Fleet);
        let better = |name: &str, theirs: Report| {
            assert!(ours.cost < theirs.cost, "seed {seed}: cost {}, {name} {}", ours.cost, theirs.cost);
            (ours.wait_s.p99 >= theirs.wait_s.p99).then(|| (seed, name.to_owned(), ours.wait_s.p99, theirs.wait_s.p99))
        };
        lost.extend(better("one-per-job", run(&one_per_job, ControllerKind::Fleet)));
        lost.extend(better("the design of config/report.toml", run(&design, ControllerKind::Fleet)));
        lost.extend(better("the control loop", run(&default, ControllerKind::CooldownLoop)));
    }
    assert!(lost.is_empty(), "of {FRESH_SEEDS:?}, these have a lower p99 wait than the default: {lost:?}");
}

#[test]
fn backlog_is_cheaper_than_the_default_and_slower() {
    let (default, backlog) = (settings(None, &[]), settings(None, &[("fleet.policy", "backlog")]));
    assert_eq!(backlog.fleet.policy, Policy::Backlog);
    for seed in FRESH_SEEDS.take(5) {
        let [ours, theirs] =
            [&default, &backlog].map(|settings| report(settings, ControllerKind::Fleet, "bursty", seed));
        // By a fifth of the cost, and for the median job by a second, on each of the seeds.
        assert!(theirs.cost < 0.9 * ours.cost, "seed {seed}: cost {}, backlog {}", ours.cost, theirs.cost);
        let (our, their) = (ours.wait_s, theirs.wait_s);
        assert!(their.p50 > our.p50 + 0.5 && their.p99 > our.p99, "seed {seed}: {our:?}, backlog {their:?}");
    }
}

/// As `make policies` does.
#[test]
fn the_table_in_the_documentation_is_what_the_command_writes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let copy = dir.path().join("simulator.md");
    std::fs::copy("docs/simulator.md", &copy).expect("the document is there");
    let out = Command::new(env!("CARGO_BIN_EXE_rollcall"))
        .args(["simulate", "--trace", "bursty", "--seed", "101", "--policy", "deadline", "--policy", "backlog"])
        .args([
            "--policy",
            "one-per-job",
            "--policy",
            "cooldown-loop",
            "--compare",
            "config/report.toml",
            "--same-cloud",
            "--update",
        ])
        .arg(&copy)
        .output()
        .expect("the program starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let (old, new) = ["docs/simulator.md".as_ref(), copy.as_path()]
        .map(|file: &std::path::Path| std::fs::read_to_string(file).expect("readable"))
        .into();
    assert_eq!(old, new, "run `make policies`");
}

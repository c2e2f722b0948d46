//! The fleet's core in the simulated cloud: it stays under its cap and every request is answered, although calls are
//! throttled, capacity is short, answers are lost, boots fail and instances crash.

use crate::simulation::{report, run, settings};
use rollcall::simulator::{ControllerKind, Run, Sample};

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

#[test]
fn every_request_is_answered_under_the_cap_whatever_goes_wrong() {
    for policy in ["one-per-job", "backlog", "deadline"] {
        let keys = [
            ("fleet.policy", policy),
            ("fleet.max_instances", "7"),
            ("fleet.keep_stopped", "2"),
            ("worker.idle_stop", "45s"),
            ("simulate.capacity_errors", "0.2"),
            ("simulate.lost_answers", "0.2"),
            ("simulate.boot_failures", "0.1"),
            ("simulate.crashes", "0.02"),
            ("simulate.describe_lag", "5s"),
            ("simulate.count_lag", "10s"),
        ];
        let settings = settings(None, &keys);
        let (mut refused, mut launched) = (0, 0);
        for seed in SEEDS {
            let run = run(&settings, ControllerKind::Fleet, "on-off", seed);
            let r = &run.report;
            assert_eq!(r.completed, r.requests, "{policy}, seed {seed}");
            let most = run.history.samples.iter().map(|s| s.pending + s.running + s.stopping + s.stopped).max();
            assert!(most <= Some(7), "{policy}, seed {seed}: {most:?} instances at once");
            refused += r.capacity_errors;
            launched += r.launches;
        }
        assert!(refused > 0 && launched > 7, "{policy}: no faults happened");
    }
}

/// The faults of `docs/simulator.md`, in the order of [`effects`].
const FAULTS: [&str; 4] =
    ["simulate.capacity_errors", "simulate.boot_failures", "simulate.lost_answers", "simulate.crashes"];

/// Counts what each fault leaves behind in a run: calls without capacity, instances that ended without having run,
/// launches called again although they had been carried out, and instances that ended while they ran. `healthy` is the
/// run of the same seed without faults. No instance is terminated for another reason if all stopped ones are kept.
fn effects(run: &Run, healthy: &Run) -> [u64; 4] {
    let all = |s: &Sample| s.pending + s.running + s.stopping + s.stopped;
    let ended = |state: fn(&Sample) -> usize| {
        let steps = run.history.samples.windows(2);
        steps.filter(|step| all(&step[0]) > all(&step[1]) && state(&step[0]) > state(&step[1])).count() as u64
    };
    let calls = |run: &Run| run.report.api_calls.launch + run.report.api_calls.start - run.report.capacity_errors;
    let same_instances = run.report.launches == healthy.report.launches;
    let again = if same_instances { calls(run).saturating_sub(calls(healthy)) } else { 0 };
    [run.report.capacity_errors, ended(|s| s.pending), again, ended(|s| s.running)]
}

#[test]
fn each_fault_has_its_documented_effect_and_no_other() {
    let keys = [
        ("fleet.policy", "one-per-job"),
        ("fleet.max_instances", "20"),
        ("fleet.keep_stopped", "20"),
        ("simulate.boot_sigma", "0"),
        ("simulate.boot_slow_share", "0"),
    ];
    let healthy = settings(None, &keys);
    let healthy = SEEDS.map(|seed| run(&healthy, ControllerKind::Fleet, "report-10", seed)).collect::<Vec<_>>();
    for (number, fault) in FAULTS.into_iter().enumerate() {
        let settings = settings(None, &[&keys[..], &[(fault, "0.3")]].concat());
        let mut sums = [0_u64; 4];
        for (seed, healthy) in SEEDS.zip(&healthy) {
            assert_eq!(effects(healthy, healthy), [0; 4], "off unless set, seed {seed}");
            let run = run(&settings, ControllerKind::Fleet, "report-10", seed);
            assert_eq!(run.report.completed, 10, "{fault}, seed {seed}");
            let seen = effects(&run, healthy);
            // Boots take 25 s; the job of a crash is received again after another 30 s (queue.visibility).
            assert_eq!(run.report.wait_s.max > 55.0, seen[3] > 0, "{fault}, seed {seed}: {}", run.report.wait_s.max);
            for (sum, seen) in sums.iter_mut().zip(seen) {
                *sum += seen;
            }
        }
        let only: [bool; 4] = std::array::from_fn(|other| other == number);
        assert_eq!(sums.map(|sum| sum > 0), only, "{fault}: {sums:?}");
    }
}

#[test]
fn a_worker_is_not_stopped_while_it_works_and_all_stop_in_the_end() {
    let keys = [("worker.idle_stop", "2s"), ("simulate.service", "90s"), ("fleet.keep_stopped", "0")];
    let settings = settings(None, &keys);
    for seed in SEEDS {
        let run = run(&settings, ControllerKind::Fleet, "report-40", seed);
        assert_eq!(run.report.completed, 40, "seed {seed}");
        for sample in &run.history.samples {
            assert!(sample.in_flight <= sample.running as u64, "seed {seed}: work without an instance: {sample:?}");
        }
        let last = run.history.samples.last().expect("something happened");
        assert_eq!((last.pending, last.running, last.stopping), (0, 0, 0), "seed {seed}");
    }
}

/// Wait and latency follow from the model: no upload is answered before a boot and the time of its job have passed.
#[test]
fn the_first_answer_takes_a_boot_and_the_service_time() {
    let keys = [("simulate.boot_sigma", "0"), ("simulate.boot_slow_share", "0"), ("simulate.service_sigma", "0")];
    for (warm, boot) in [("0", 25.0), ("1", 15.0)] {
        let settings = settings(None, &[&keys[..], &[("simulate.warm", warm)]].concat());
        for seed in SEEDS {
            let r = report(&settings, ControllerKind::Fleet, "report-1", seed);
            assert!((boot..boot + 1.0).contains(&r.wait_s.max), "{warm} warm, seed {seed}: waited {} s", r.wait_s.max);
            let work = r.end_to_end_s.max - r.wait_s.max;
            assert!((1.0..1.1).contains(&work), "{warm} warm, seed {seed}: worked {work} s");
            assert_eq!((r.launches, r.starts), if warm == "0" { (1, 0) } else { (0, 1) }, "seed {seed}");
        }
    }
}

#[test]
fn the_baseline_polls_and_cools_down() {
    let settings = settings(None, &[]);
    for seed in SEEDS {
        let run = run(&settings, ControllerKind::CooldownLoop, "report-30", seed);
        assert_eq!((run.report.completed, run.report.launches), (30, 6), "a launch for five jobs each, seed {seed}");
        let ran = run.history.samples.iter().rposition(|s| s.running > 0).expect("it ran");
        let idle = run.history.samples[ran + 1].at.as_secs_f64() - run.report.makespan_s;
        assert!((270.0..400.0).contains(&idle), "seed {seed}: terminated {idle} s after the last answer");
    }
}

/// Traces begin on a Monday at 00:00 UTC.
#[test]
fn the_schedule_follows_the_clock_of_the_trace() {
    let keys = [("fleet.schedule", "mon 01:00-02:00 3"), ("fleet.max_instances", "5"), ("worker.idle_stop", "65m")];
    let settings = settings(None, &keys);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("trace.csv");
    // Two jobs, at 03:00 of Monday and of Tuesday.
    std::fs::write(&file, "10800\n97200\n").expect("writable");
    let run = run(&settings, ControllerKind::Fleet, file.to_str().expect("a path of text"), 1);
    let running = |minute: u64| {
        let at = std::time::Duration::from_secs(60 * minute);
        run.history.samples.iter().rfind(|sample| sample.at <= at).map_or(0, |sample| sample.running)
    };
    let launched = run.history.samples.iter().find(|sample| sample.pending > 0).expect("the schedule launches").at;
    assert!((3600.0..3606.0).contains(&launched.as_secs_f64()), "at 01:00 and a poll of 5 s: {launched:?}");
    assert_eq!([58, 62, 90, 119, 140].map(running), [0, 3, 3, 3, 0]);
    assert_eq!([24 * 60 + 62, 24 * 60 + 90].map(running), [0, 0], "not on Tuesday");
}

/// Two policies with the same seed differ in what they do, not in the jobs that they get.
#[test]
fn all_controllers_see_the_same_jobs() {
    let settings = settings(None, &[]);
    for seed in SEEDS {
        let [fleet, baseline] = [ControllerKind::Fleet, ControllerKind::CooldownLoop]
            .map(|kind| run(&settings, kind, "on-off", seed).history.jobs);
        let arrivals = |jobs: &[rollcall::simulator::JobTimes]| jobs.iter().map(|job| job.arrived).collect::<Vec<_>>();
        assert!(!fleet.is_empty() && arrivals(&fleet) == arrivals(&baseline), "seed {seed}");
    }
}

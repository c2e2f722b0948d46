//! The fleet's core keeps its promises in generated histories that contain everything that can go wrong in a cloud:
//! stale descriptions, calls that are lost or carried out late, launches that fail partly or completely, machines that
//! never come up, come up dead or vanish, and a controller that crashes at any step and starts again.

use std::collections::BTreeMap;

use crate::fleet_support::{bugs::Bug, plan::Plan, world::World};

/// How many, unless the environment says so.
const HISTORIES: u64 = 20_000;
const HISTORIES_VARIABLE: &str = "ROLLCALL_FLEET_HISTORIES";
/// The histories of which the faults are counted.
const COUNTED: u64 = HISTORIES / 5;

fn run(plan: &Plan, bug: Bug) -> Result<(), String> {
    World::new(plan.clone(), bug).run()
}

/// Returns the simplest plan found that also breaks a promise, and the problem.
fn shrink(mut plan: Plan, bug: Bug) -> (Plan, String) {
    loop {
        match plan.simpler().into_iter().find(|p| run(p, bug).is_err()) {
            Some(simpler) => plan = simpler,
            None => {
                let problem = run(&plan, bug).expect_err("it fails");
                return (plan, problem);
            }
        }
    }
}

/// What came of some histories.
#[derive(Default)]
struct Found {
    /// The first one that breaks a promise.
    failed: Option<u64>,
    /// How often each fault and each kind of rules occurred in the first histories.
    seen: BTreeMap<&'static str, u64>,
}

/// Runs every `step`-th history, until one breaks a promise.
fn run_histories(seeds: std::ops::Range<u64>, step: usize) -> Found {
    let mut found = Found::default();
    for seed in seeds.step_by(step) {
        let plan = Plan::new(seed);
        let kinds = [
            ("silent_timeout off", u64::from(plan.rules.silent_timeout.is_none())),
            ("schedule", u64::from(!plan.rules.schedule.is_empty())),
            ("several threads", u64::from(plan.rules.threads > 1)),
            ("target_wait", u64::from(plan.rules.target_wait.is_some())),
        ];
        let mut world = World::new(plan, Bug::None);
        if world.run().is_err() {
            found.failed = Some(seed);
            break;
        }
        if seed < COUNTED {
            for (what, times) in world.env.occurrences.into_iter().chain(kinds) {
                *found.seen.entry(what).or_default() += times;
            }
        }
    }
    found
}

#[test]
fn every_invariant_holds_in_generated_histories_that_often_contain_every_fault() {
    let wanted = std::env::var(HISTORIES_VARIABLE).ok().map(|count| count.parse().expect("a number"));
    let histories: u64 = wanted.unwrap_or(HISTORIES);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let found: Vec<Found> = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads as u64).map(|first| scope.spawn(move || run_histories(first..histories, threads))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    if let Some(seed) = found.iter().filter_map(|found| found.failed).min() {
        let (plan, problem) = shrink(Plan::new(seed), Bug::None);
        let mut world = World::new(plan.clone(), Bug::None).logged();
        let _ = world.run();
        let log = world.env.log.unwrap_or_default();
        let last = &log[log.len().saturating_sub(150)..];
        panic!("history {seed}: {problem}\n{plan:#?}\n{}", last.join("\n"));
    }
    let mut seen = BTreeMap::<&str, u64>::new();
    for (what, times) in found.into_iter().flat_map(|found| found.seen) {
        *seen.entry(what).or_default() += times;
    }
    for what in [
        "answer lost",
        "call lost",
        "no answer",
        "crash",
        "throttled",
        "no capacity",
        "quota",
        "partial launch",
        "never up",
        "failed boot",
        "degraded",
        "came up dead",
        "vanished",
        "stop stuck",
        "work during a drain",
        "launch",
        "start",
        "sweep",
        "boot timeout",
        "stop timeout",
        "silent worker",
        "unresponsive worker",
        "termination again",
        "outdated",
        "silent_timeout off",
        "schedule",
        "several threads",
        "restored",
        "damaged state",
        "boots restored",
        "target_wait",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times >= 25), "{what}: {seen:#?}");
    }
}

#[test]
fn every_deliberate_bug_is_caught() {
    for (bug, problem) in Bug::ALL {
        let caught = |seed| run(&Plan::new(seed), bug).is_err_and(|found| found.contains(problem));
        assert!((0..2_000).any(caught), "{bug:?} is not caught: {problem}");
    }
}

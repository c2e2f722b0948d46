//! The fleet's core keeps its promises in generated histories that contain everything that can go wrong in a cloud:
//! stale descriptions, calls that are lost or carried out late, launches that fail partly or completely, machines that
//! never come up, come up dead or vanish, and a controller that crashes at any step and starts again.

use std::collections::BTreeMap;

use crate::fleet_support::{bugs::Bug, plan::Plan, world::World};

const HISTORIES: u64 = 20_000;

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

#[test]
fn every_invariant_holds_in_generated_histories() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let failed = std::thread::scope(|scope| {
        let work = |first| {
            move || (first..HISTORIES).step_by(threads as usize).find(|n| run(&Plan::new(*n), Bug::None).is_err())
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(work(first))).collect();
        running.into_iter().filter_map(|thread| thread.join().expect("no panic")).min()
    });
    if let Some(seed) = failed {
        let (plan, problem) = shrink(Plan::new(seed), Bug::None);
        let mut world = World::new(plan.clone(), Bug::None).logged();
        let _ = world.run();
        let log = world.env.log.unwrap_or_default();
        let last = &log[log.len().saturating_sub(150)..];
        panic!("history {seed}: {problem}\n{plan:#?}\n{}", last.join("\n"));
    }
}

#[test]
fn generated_histories_often_contain_every_fault() {
    let mut seen = BTreeMap::<&str, u64>::new();
    let (mut silent_off, mut scheduled, mut threads) = (0, 0, 0);
    for seed in 0..HISTORIES / 5 {
        let plan = Plan::new(seed);
        silent_off += u64::from(plan.rules.silent_timeout.is_none());
        scheduled += u64::from(!plan.rules.schedule.is_empty());
        threads += u64::from(plan.rules.threads > 1);
        let mut world = World::new(plan, Bug::None);
        world.run().expect("it keeps every promise");
        for (what, times) in world.env.occurrences {
            *seen.entry(what).or_default() += times;
        }
    }
    seen.extend([("silent_timeout off", silent_off), ("schedule", scheduled), ("several threads", threads)]);
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

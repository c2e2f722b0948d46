//! Results keep their promises in generated histories: web nodes, workers and the consumer of dead letters run the
//! production code on a queue and a store in memory, one call at a time in any order, and any process may die between
//! two calls: at random, or after each call in turn. At the end everything is left to run until the queues are empty.

mod bugs;
mod cloud;
mod processes;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use processes::OCCURRENCES;
use world::{Crashes, Plan, Seen, World};

/// How many histories are run, unless the variable `ROLLCALL_HISTORIES` says otherwise.
const HISTORIES: u64 = 20_000;

fn histories() -> u64 {
    std::env::var("ROLLCALL_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(HISTORIES)
}

fn run(plan: Plan) -> Result<Seen, (Plan, String)> {
    World::new(plan).run().map_err(|problem| (plan, problem))
}

/// Runs `work`, which returns how many histories it was, on each seed in turn until there have been enough, on all cores.
/// Returns what was seen.
fn on_all_cores(work: impl Fn(u64, &mut Seen) -> Result<u64, (Plan, String)> + Sync) -> Seen {
    let (next, done) = (AtomicU64::default(), AtomicU64::default());
    let on_one = || {
        let mut seen = Seen::default();
        while done.load(Ordering::Relaxed) < histories() {
            done.fetch_add(work(next.fetch_add(1, Ordering::Relaxed), &mut seen)?, Ordering::Relaxed);
        }
        Ok(seen)
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(on_one)).collect();
        let mut all = Seen::default();
        for thread in running {
            match thread.join().expect("no panic") {
                Ok(seen) => all.add(seen),
                Err((plan, problem)) => panic!("{plan:?}: {problem}\n{}", World::new(plan).log()),
            }
        }
        all
    })
}

#[test]
fn no_job_is_lost_left_pending_answered_twice_or_restored_in_generated_histories() {
    let seen = on_all_cores(|seed, seen| {
        seen.add(run(Plan { seed, bug: Bug::None, crashes: Crashes::Random })?);
        Ok(1)
    });
    for what in OCCURRENCES {
        assert!(seen.occurred.get(what).is_some_and(|n| *n >= 100), "{what} is too rare: {seen:#?}");
    }
}

#[test]
fn a_crash_after_any_call_breaks_no_promise() {
    let seen = on_all_cores(|seed, seen| {
        let plan = |call| Plan { seed, bug: Bug::None, crashes: Crashes::After(call) };
        let calls = run(plan(usize::MAX))?.calls;
        for call in 1..=calls {
            seen.add(run(plan(call))?);
        }
        Ok(calls as u64)
    });
    for what in ["web node killed", "worker killed", "consumer killed"] {
        assert!(seen.occurred.get(what).is_some_and(|n| *n >= 100), "{what} is too rare: {seen:#?}");
    }
}

#[test]
fn every_fault_that_is_put_back_is_caught() {
    for (bug, expected) in Bug::ALL {
        let plan = |seed| Plan { seed, bug, crashes: Crashes::Random };
        let caught = |seed| run(plan(seed)).is_err_and(|(_, problem)| problem.contains(expected));
        assert!((0..3_000).any(caught), "{bug:?} is not caught: {expected}");
    }
}

//! Results keep their promises in generated histories: web nodes, workers and the consumer of dead letters run the
//! production code on a queue and a store in memory, one call at a time in any order, and any process may die between
//! two calls. At the end everything is left to run until the queues are empty.

mod cloud;
mod processes;
mod world;

use std::collections::BTreeMap;

use processes::{Bug, OCCURRENCES};
use world::{Plan, World};

/// How many histories are run, unless the variable `ROLLCALL_HISTORIES` says otherwise.
const HISTORIES: u64 = 20_000;

fn histories() -> u64 {
    std::env::var("ROLLCALL_HISTORIES").ok().and_then(|n| n.parse().ok()).unwrap_or(HISTORIES)
}

fn run(seed: u64, bug: Bug) -> Result<BTreeMap<&'static str, u64>, String> {
    World::new(Plan { seed, bug }).run()
}

#[test]
fn no_job_is_lost_left_pending_or_restored_in_generated_histories() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()) as u64;
    let (failed, seen) = std::thread::scope(|scope| {
        let work = |first| {
            move || {
                let mut seen = BTreeMap::<&str, u64>::new();
                for seed in (first..histories()).step_by(threads as usize) {
                    match run(seed, Bug::None) {
                        Ok(occurred) => occurred.into_iter().for_each(|(what, n)| *seen.entry(what).or_default() += n),
                        Err(problem) => return Err((seed, problem)),
                    }
                }
                Ok(seen)
            }
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(work(first))).collect();
        let mut all = BTreeMap::<&str, u64>::new();
        let mut failed = Vec::new();
        for outcome in running.into_iter().map(|thread| thread.join().expect("no panic")) {
            match outcome {
                Ok(seen) => seen.into_iter().for_each(|(what, n)| *all.entry(what).or_default() += n),
                Err(problem) => failed.push(problem),
            }
        }
        (failed.into_iter().min(), all)
    });
    if let Some((seed, problem)) = failed {
        panic!("history {seed}: {problem}\n{}", World::new(Plan { seed, bug: Bug::None }).log());
    }
    for what in OCCURRENCES {
        assert!(seen.get(what).is_some_and(|n| *n >= 100), "{what} is too rare: {seen:#?}");
    }
}

#[test]
fn every_fault_that_is_put_back_is_caught() {
    for (bug, expected) in Bug::ALL {
        let caught = |seed| run(seed, bug).is_err_and(|problem| problem.contains(expected));
        assert!((0..3_000).any(caught), "{bug:?} is not caught: {expected}");
    }
}

//! Chaos: clients of every kind use a cluster whose processes are killed and stopped, whose disk fills up and whose clock
//! moves, and a ledger outside of it checks what it promised.
//!
//! In the test run, this takes seconds. `make chaos` runs it for minutes or hours, and writes a report.

mod clients;
mod clock;
mod ledger;
mod one_machine;
mod report;
mod world;

#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "aws")]
#[path = "../aws/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests on AWS, which use more of it")]
mod support;

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};
use report::Report;
use world::World;

/// Time after which nothing of what was deleted is in any file: see docs/privacy.md.
const OVERWRITTEN: Duration = Duration::from_secs(90);

/// Settings of a run, from the environment.
struct Options {
    /// Seconds in which faults happen (`ROLLCALL_CHAOS_SECONDS`).
    duration: Duration,
    /// Seed of what clients and faults do (`ROLLCALL_CHAOS_SEED`). When they do it depends on the machine as well.
    seed: u64,
}

impl Options {
    fn read() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        Self {
            duration: Duration::from_secs(number("ROLLCALL_CHAOS_SECONDS").unwrap_or(20)),
            seed: number("ROLLCALL_CHAOS_SEED").unwrap_or_else(|| rand::rng().random()),
        }
    }
}

/// Runs clients and faults against a world, and checks at its end what was promised.
async fn run(name: &'static str, mut world: impl World) {
    let options = Options::read();
    println!("{name}: seed {}, {} s", options.seed, options.duration.as_secs());
    let mut report = Report::new(name, options.seed, options.duration);
    let mut rng = ChaCha12Rng::seed_from_u64(options.seed);
    let clients = clients::start(world.access(), options.seed);
    let end = tokio::time::Instant::now() + options.duration;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(rng.random_range(500..world.longest_pause_ms()))).await;
        let fault = world.fault(&mut rng).await;
        report.fault(fault);
        report.progress(&clients.ledger());
    }
    println!("the faults are over: {:?}", report.faults());
    clients.stop();
    world.finish().await;
    println!("all jobs are done");
    let mut ledger = clients.end().await;
    println!("the clients have ended");
    ledger.ask(&world.access()).await;
    // What was deleted may be in the bytes of some files for a while.
    let overwritten = tokio::time::Instant::now() + OVERWRITTEN;
    let violations = loop {
        let violations = ledger.violations(&world.kept().await);
        if violations.is_empty() || tokio::time::Instant::now() >= overwritten {
            break violations;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    report.end(&world, violations, ledger.counts());
    report.write();
    assert!(report.violations.is_empty(), "seed {}: {:#?}", options.seed, report.violations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_on_one_machine_loses_nothing_and_keeps_nothing() {
    run("one machine", one_machine::OneMachine::start().await).await;
}

#[cfg(feature = "aws")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_on_aws_loses_nothing_and_keeps_nothing() {
    run("emulated AWS", aws::Aws::start().await).await;
}

//! One history: clients, web nodes, workers and the consumer of dead letters, and what they were promised.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};

use super::{
    bugs::Bug,
    cloud::{FakeQueue, FakeStore},
    processes::{KEPT, Shared},
};
use crate::{cloud::Receipt, job::JobId, results::ResultStore, settings::Settings};

/// Steps of a history before everything is left to run until it is done.
const STEPS: usize = 200;
/// Limit on the steps that the rest takes.
const MAX_REST: usize = 20_000;

/// A history.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub bug: Bug,
    pub crashes: Crashes,
}

/// Which processes are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crashes {
    /// Any, at any time.
    Random,
    /// The one that makes this call of the history, right after it; the first call is 1. Until then, histories with the
    /// same seed are the same.
    After(usize),
}

/// What was seen in a history, or in many.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often each thing occurred.
    pub occurred: BTreeMap<&'static str, u64>,
    /// How many calls all processes made.
    pub calls: usize,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        other.occurred.into_iter().for_each(|(what, n)| *self.occurred.entry(what).or_default() += n);
        self.calls += other.calls;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Web,
    Worker,
    Consumer,
}

struct Process {
    role: Role,
    run: Pin<Box<dyn Future<Output = ()>>>,
    /// What it has received, which is released when it dies.
    receipt: Arc<Mutex<Option<Receipt>>>,
}

/// One history.
pub struct World {
    rng: ChaCha12Rng,
    crashes: Crashes,
    calls: usize,
    shared: Shared,
    processes: Vec<Process>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(plan.seed);
        let dead = Arc::new(FakeQueue::default());
        let requests = Arc::new(FakeQueue::with_dead_letters(dead.clone()));
        let store = Arc::new(FakeStore::new(plan.bug == Bug::UnconditionalPuts));
        let settings = SETTINGS.with(Settings::clone);
        let results = ResultStore::new(store.clone(), settings.store.clone());
        let ledger = Arc::default();
        let embedded = rng.random_bool(0.5);
        let shared = Shared { settings, requests, dead, store, results, ledger, embedded, bug: plan.bug };
        Self { rng, crashes: plan.crashes, calls: 0, shared, processes: Vec::new() }
    }

    /// Runs the history and returns what was seen.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn run(mut self) -> Result<Seen, String> {
        self.go()?;
        let occurred = self.shared.ledger().occurred.clone();
        Ok(Seen { occurred, calls: self.calls })
    }

    /// Runs the history and returns what happened, one line per event.
    pub fn log(mut self) -> String {
        let _ = self.go();
        self.shared.ledger().log.join("\n")
    }

    fn go(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            match self.rng.random_range(0..100) {
                0..7 => self.client(),
                7..12 => self.start(Role::Worker),
                12..15 => self.start(Role::Consumer),
                15..19 if self.crashes == Crashes::Random => self.kill_any(),
                19 => self.expire_delivery(),
                20 => self.shared.requests.close_deduplication_window(),
                21 => self.shared.requests.write(),
                _ => self.step(),
            }
        }
        self.rest()?;
        if self.shared.embedded {
            self.restart();
        }
        self.shared.check()
    }

    /// Lets one process make one call.
    fn step(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let n = self.rng.random_range(0..self.processes.len());
        let mut context = Context::from_waker(Waker::noop());
        let polled = self.processes[n].run.as_mut().poll(&mut context);
        self.calls += 1;
        if polled == Poll::Ready(()) {
            self.processes.swap_remove(n);
        } else if self.crashes == Crashes::After(self.calls) {
            self.kill(n);
        }
    }

    fn kill_any(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let n = self.rng.random_range(0..self.processes.len());
        let worker = self.processes.iter().position(|process| process.role == Role::Worker);
        let n = worker.filter(|_| self.rng.random_bool(0.7)).unwrap_or(n);
        self.kill(n);
    }

    /// Kills one process, or, if the queue is embedded and the process is its parent, all.
    fn kill(&mut self, n: usize) {
        let process = self.processes.swap_remove(n);
        let what = match process.role {
            Role::Web => "web node killed",
            Role::Worker => "worker killed",
            Role::Consumer => "consumer killed",
        };
        self.shared.ledger().note(what, JobId(0));
        if self.shared.embedded && process.role != Role::Worker {
            self.restart();
        } else if let Some(receipt) = process.receipt.lock().expect("no panic").take() {
            let queue = if process.role == Role::Worker { &self.shared.requests } else { &self.shared.dead };
            queue.release(&receipt);
        }
    }

    /// Kills all processes and starts that of the embedded queue again.
    fn restart(&mut self) {
        self.processes.clear();
        self.shared.requests.crash();
        self.shared.dead.crash();
        if self.shared.bug == Bug::NoSweep {
            return;
        }
        let queued = self.shared.requests.jobs().chain(self.shared.dead.jobs()).collect();
        let results = self.shared.results.clone();
        let mut sweep = Box::pin(async move { results.sweep_orphans(&queued).await });
        let mut context = Context::from_waker(Waker::noop());
        while sweep.as_mut().poll(&mut context).is_pending() {}
    }

    /// Delivers a job again while its worker still runs it.
    fn expire_delivery(&mut self) {
        let workers = self.processes.iter().filter(|process| process.role == Role::Worker);
        let receipts: Vec<Receipt> = workers.filter_map(|p| p.receipt.lock().expect("no panic").clone()).collect();
        if !receipts.is_empty() {
            let receipt = &receipts[self.rng.random_range(0..receipts.len())];
            self.shared.requests.release(receipt);
            self.shared.ledger().note("redelivered while it ran", JobId(0));
        }
    }

    fn start(&mut self, role: Role) {
        let receipt = Arc::<Mutex<Option<Receipt>>>::default();
        let (shared, held) = (self.shared.clone(), receipt.clone());
        let run: Pin<Box<dyn Future<Output = ()>>> = match role {
            Role::Worker => {
                let fails = self.rng.random_bool(0.2);
                Box::pin(async move { shared.work(held, fails).await.expect("the store works") })
            }
            Role::Consumer => Box::pin(async move { shared.consume(held).await.expect("the store works") }),
            Role::Web => unreachable!("a client starts it"),
        };
        self.processes.push(Process { role, run, receipt });
    }

    /// Starts a request of a client about one of a few jobs.
    fn client(&mut self) {
        let id = JobId(self.rng.random_range(KEPT));
        let large = self.rng.random_bool(0.3);
        let shared = self.shared.clone();
        let run: Pin<Box<dyn Future<Output = ()>>> = match self.rng.random_range(0..22) {
            0..7 => Box::pin(async move { shared.upload(id, large).await }),
            7..13 => Box::pin(async move { shared.upload_and_wait(id, large).await }),
            13..15 => Box::pin(async move { shared.delete(id).await }),
            15..19 => Box::pin(async move { shared.send_again(id).await }),
            19 => Box::pin(async move { shared.purge(id).await }),
            _ => Box::pin(async move { shared.enrol(large).await }),
        };
        self.processes.push(Process { role: Role::Web, run, receipt: Arc::default() });
    }

    /// Lets everything run, without faults, until the queues are empty.
    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..MAX_REST {
            if self.processes.is_empty() {
                match (self.shared.requests.is_empty(), self.shared.dead.is_empty()) {
                    (true, true) => return Ok(()),
                    (false, _) => self.start(Role::Worker),
                    (true, false) => self.start(Role::Consumer),
                }
            }
            self.step();
        }
        Err("the queues do not become empty".into())
    }
}

thread_local! {
    /// Reading the settings takes longer than a history.
    static SETTINGS: Settings = crate::testing::settings();
}

//! The report of a run, as text and as JSON.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::{ledger::Ledger, world::World};

/// Seconds between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(60);

pub struct Report {
    name: &'static str,
    seed: u64,
    duration: Duration,
    faults: BTreeMap<&'static str, u64>,
    counts: BTreeMap<&'static str, u64>,
    measured: BTreeMap<String, f64>,
    pub violations: Vec<String>,
    began: tokio::time::Instant,
    shown: tokio::time::Instant,
}

impl Report {
    pub fn new(name: &'static str, seed: u64, duration: Duration) -> Self {
        let now = tokio::time::Instant::now();
        let (faults, counts, measured) = Default::default();
        Self { name, seed, duration, faults, counts, measured, violations: Vec::new(), began: now, shown: now }
    }

    pub fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// Returns how often each fault has happened.
    pub fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    /// Prints a line now and then.
    pub fn progress(&mut self, ledger: &Ledger) {
        if self.shown.elapsed() >= PROGRESS {
            self.shown = tokio::time::Instant::now();
            let minutes = self.began.elapsed().as_secs() / 60;
            println!("{minutes} min: {:?}; faults: {:?}", ledger.counts(), self.faults);
        }
    }

    pub fn end(&mut self, world: &impl World, violations: Vec<String>, counts: BTreeMap<&'static str, u64>) {
        (self.violations, self.counts, self.measured) = (violations, counts, world.measured());
        self.violations.extend(world.violations());
    }

    /// Prints the report, and writes it to the file `ROLLCALL_CHAOS_REPORT`, if that is set, as JSON.
    pub fn write(&self) {
        let report = json!({
            "world": self.name,
            "seed": self.seed,
            "seconds_of_faults": self.duration.as_secs(),
            "seconds_until_everything_was_checked": self.began.elapsed().as_secs(),
            "faults": self.faults,
            "kills": self.faults.iter().filter(|(what, _)| what.contains("killed")).map(|(_, n)| n).sum::<u64>(),
            "clients": self.counts,
            "measured": self.measured,
            "violations": self.violations,
        });
        println!("{report:#}");
        if let Some(path) = std::env::var_os("ROLLCALL_CHAOS_REPORT") {
            std::fs::write(path, format!("{report:#}\n")).expect("the report is written");
        }
    }
}

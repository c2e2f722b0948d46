//! What the emulated EC2 has recorded of its instances.

use serde::Deserialize;

use super::prices::{HOUR, MINIMUM};

/// The instances of an account, and the time at which they were listed.
#[derive(Clone, Debug, Deserialize)]
pub struct Ledger {
    pub now: f64,
    pub instances: Vec<Entry>,
}

/// One instance.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    pub zone: String,
    pub spot: bool,
    /// EC2 itself has ended it.
    pub ended_by_ec2: bool,
    pub disk_gb: f64,
    /// The states that it entered, each with the time in seconds.
    pub states: Vec<(f64, String)>,
}

impl Entry {
    /// Returns when it began to run and when that ended, for each time.
    pub fn runs(&self, now: f64) -> impl Iterator<Item = (f64, f64)> {
        let ends = self.states.iter().skip(1).map(|(at, _)| *at).chain([now]);
        self.states.iter().zip(ends).filter(|((_, state), _)| state == "running").map(|((from, _), to)| (*from, to))
    }

    /// Returns its latest state.
    pub fn state(&self) -> &str {
        self.states.last().map_or("", |(_, state)| state)
    }

    /// Returns the billed seconds of the instance itself.
    ///
    /// Each time that it runs is billed by the second, for at least a minute; no other state is. A spot instance that EC2
    /// interrupts within its first hour is not billed ("Billing for interrupted Spot Instances").
    pub(super) fn billed(&self, now: f64) -> f64 {
        let seconds = self.runs(now).map(|(from, to)| minimum(to - from));
        let free = self.spot && self.ended_by_ec2 && self.runs(now).all(|(from, to)| to - from < HOUR);
        if free { 0.0 } else { seconds.sum() }
    }

    /// Returns the billed seconds of its public address, which it has while it runs.
    pub(super) fn address(&self, now: f64) -> f64 {
        self.runs(now).map(|(from, to)| minimum(to - from)).sum()
    }

    /// Returns the GB-seconds of its disk, which exists from the launch to the termination, also while it is stopped.
    pub(super) fn disk(&self, now: f64) -> f64 {
        let Some((launched, _)) = self.states.first() else { return 0.0 };
        let ended = self.states.iter().find(|(_, state)| state == "terminated").map_or(now, |(at, _)| *at);
        minimum(ended - launched) * self.disk_gb
    }
}

impl Ledger {
    /// Returns the largest number of instances that ran or were about to at the same time.
    pub fn most_running(&self) -> usize {
        let busy = |entry: &Entry, at: f64| {
            let state = entry.states.iter().rev().find(|(since, _)| *since <= at).map(|(_, state)| state.as_str());
            matches!(state, Some("pending" | "running"))
        };
        let changes = self.instances.iter().flat_map(|entry| entry.states.iter().map(|(at, _)| *at));
        changes.map(|at| self.instances.iter().filter(|entry| busy(entry, at)).count()).max().unwrap_or(0)
    }
}

/// Returns the seconds that are billed of these.
fn minimum(seconds: f64) -> f64 {
    seconds.max(MINIMUM)
}

//! Boots that end before a worker is ready: they are counted, and after a few, instances are tried one at a time.
//!
//! An image or a model that does not work fails every boot, and each one is billed. So after [`SLOW_AFTER`] failed boots
//! without a ready one in between, one instance at a time is launched or started, with pauses that double. From
//! [`DEGRADED_AFTER`] on, the fleet is degraded. The first instance that becomes ready ends both.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    boot_outcome::BootOutcome,
    calls::doubled,
    decision_log::{Change, DecisionLog},
    explain::{Inputs, Kind},
    instance::Instance,
    timestamp::Timestamp,
};

/// Number of consecutive failed boots after which instances are tried one at a time. Single boots fail in a healthy
/// cluster too, and their replacement must not wait.
const SLOW_AFTER: usize = 3;
/// Number of consecutive failed boots from which the fleet is degraded: those before, and two that were tried alone.
const DEGRADED_AFTER: usize = 5;
/// The first pause, about the time of a boot, and the longest. With the latter, an hour costs at most four boots, and a
/// repaired image is noticed within a quarter of an hour.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15 * 60));

/// Why, and since when, few instances are launched and started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degraded {
    /// When it began, or when this controller did, if it was so before.
    pub since: Timestamp,
    /// For how long it had been so when this controller began.
    pub earlier: Duration,
    /// Number of boots in a row that ended before a worker was ready.
    pub failed_boots: usize,
    /// The next instance is not tried before this time. `None` while one boots.
    pub next_attempt: Option<Timestamp>,
    /// How the last boot failed.
    pub reason: String,
}

/// What a controller remembers of failed boots for the next one ([`Event::BootsRestored`](super::Event::BootsRestored)). Times are in
/// milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedBoots {
    /// Number of boots in a row that failed.
    failed: usize,
    /// Number of pauses so far.
    pauses: u32,
    /// The next instance is not tried before this time.
    next_ms: u64,
    /// Since when the fleet is degraded.
    degraded_since_ms: Option<u64>,
    /// How the last boot failed.
    reason: String,
}

impl RememberedBoots {
    /// Lets the next controller try one instance at once.
    pub fn with_attempt_at_once(self) -> Self {
        Self { next_ms: 0, ..self }
    }
}

/// Boots whose ends became known at the same time.
#[derive(Clone, Debug, Default)]
pub(super) struct EndedBoots {
    /// The name of an instance that became ready.
    came_up: Option<String>,
    /// How each of the others failed.
    failed: Vec<String>,
}

impl EndedBoots {
    pub fn is_empty(&self) -> bool {
        self.came_up.is_none() && self.failed.is_empty()
    }

    /// Adds the boot of an instance that has come up or failed.
    pub fn add(&mut self, came_up: Option<bool>, instance: &Instance) {
        let Instance { name, reason, .. } = instance;
        match came_up {
            Some(true) => self.came_up = Some(name.clone()),
            Some(false) => {
                let why = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
                self.failed.push(format!("{name} ended before it was ready{why}"));
            }
            None => {}
        }
    }

    /// Returns one outcome for each failed boot.
    pub fn failures(&self) -> impl Iterator<Item = BootOutcome> {
        self.failed.iter().map(|_| BootOutcome::Failed)
    }

    /// Adds failed boots.
    pub fn failed(&mut self, how: impl IntoIterator<Item = String>) {
        self.failed.extend(how);
    }
}

/// Counts consecutive failed boots, and limits further ones.
#[derive(Clone, Debug, Default)]
pub(super) struct FailedBoots {
    consecutive: usize,
    degraded_since: Option<Timestamp>,
    /// For how long it had been degraded when this controller began.
    degraded_earlier: Duration,
    /// How the last boot failed.
    reason: String,
    /// Number of pauses so far.
    pauses: u32,
    /// No boot before this time.
    until: Timestamp,
    /// When an instance was last tried alone.
    tried: Option<Timestamp>,
}

impl FailedBoots {
    /// Returns the state, if the fleet is degraded. `booting` counts the instances that may be booting.
    pub fn degraded(&self, booting: impl FnOnce() -> usize) -> Option<Degraded> {
        Some(Degraded {
            since: self.degraded_since?,
            earlier: self.degraded_earlier,
            failed_boots: self.consecutive,
            next_attempt: (booting() == 0).then(|| self.next()),
            reason: self.reason.clone(),
        })
    }

    /// Returns what the next controller must know; `None` if no boot has failed since the last one that succeeded. `started_at` is the
    /// start of this controller since the Unix epoch.
    pub fn remembered(&self, started_at: Duration) -> Option<RememberedBoots> {
        let ms = |at: Timestamp| started_at.saturating_add(at.since_start()).as_millis() as u64;
        let earlier_ms = self.degraded_earlier.as_millis() as u64;
        (self.consecutive > 0).then(|| RememberedBoots {
            failed: self.consecutive,
            pauses: self.pauses,
            next_ms: ms(self.next()),
            degraded_since_ms: self.degraded_since.map(|since| ms(since).saturating_sub(earlier_ms)),
            reason: self.reason.clone(),
        })
    }

    /// Continues where an earlier controller ended. `clock` is the time since the Unix epoch.
    pub fn restore(
        &mut self,
        now: Timestamp,
        clock: Duration,
        boots: RememberedBoots,
        inputs: &Inputs,
        log: &mut DecisionLog,
    ) {
        let RememberedBoots { failed, pauses, next_ms, degraded_since_ms, reason } = boots;
        // However wrong a clock was, an instance is tried after the longest pause.
        let left = Duration::from_millis(next_ms).saturating_sub(clock).min(PAUSE.1);
        let earlier = degraded_since_ms.map(|since| clock.saturating_sub(Duration::from_millis(since)));
        *self = Self {
            consecutive: failed,
            degraded_since: earlier.map(|_| now),
            degraded_earlier: earlier.unwrap_or_default(),
            reason,
            pauses,
            until: now + left,
            tried: None,
        };
        if self.degraded_since.is_some() {
            let reason = format!("still degraded, as an earlier controller was: {}", self.summary());
            log.explain(now, change(Kind::Degraded, reason), inputs.clone());
        }
    }

    fn summary(&self) -> String {
        format!("{} boots in a row failed, the last because {}", self.consecutive, self.reason)
    }

    /// Records how boots have ended. If one has succeeded, those that failed at the same time do not count.
    pub fn ended(&mut self, now: Timestamp, ended: EndedBoots, inputs: &Inputs, log: &mut DecisionLog) {
        if let Some(name) = ended.came_up {
            let before = std::mem::take(self);
            if before.degraded_since.is_some() {
                let reason = format!("{name} is ready: no longer degraded, after {} failed boots", before.consecutive);
                log.explain(now, change(Kind::Recovered, reason), inputs.clone());
            }
            return;
        }
        let (was_slow, failed) = (self.is_slow(), ended.failed.len());
        let Some(last) = ended.failed.into_iter().next_back() else { return };
        self.consecutive = self.consecutive.saturating_add(failed);
        self.reason = last;
        // Boots that were under way when a pause began make it no longer.
        if self.is_slow() && self.until <= now {
            self.pauses = self.pauses.saturating_add(1);
            self.until = now + self.pause();
        }
        let pause = humantime::format_duration(self.pause());
        if self.consecutive >= DEGRADED_AFTER && self.degraded_since.is_none() {
            let reason = format!("degraded: {}; one instance is tried at a time, the next in {pause}", self.summary());
            log.explain(now, change(Kind::Degraded, reason), inputs.clone());
            self.degraded_since = Some(now);
        } else if self.is_slow() && !was_slow {
            log.error(now, format!("{}; one instance is tried at a time, the next in {pause}", self.summary()));
        }
    }

    /// Returns how many instances may be launched or started now. `booting` counts those that may be booting.
    pub fn allowed(&self, now: Timestamp, booting: impl FnOnce() -> usize) -> usize {
        if !self.is_slow() { usize::MAX } else { usize::from(self.next() <= now && booting() == 0) }
    }

    /// Returns when the next instance may be tried, if that only depends on the time.
    pub fn due(&self) -> Option<Timestamp> {
        self.is_slow().then(|| self.next())
    }

    /// Records that an instance is launched or started. The next pause begins then, in case nobody learns how it ends.
    pub fn tried(&mut self, now: Timestamp) {
        self.tried = self.is_slow().then_some(now);
    }

    /// Records that the cloud has refused to boot it: that costs nothing, so the next one need not wait.
    pub fn refused(&mut self) {
        self.tried = None;
    }

    /// Returns whether instances are tried one at a time.
    fn is_slow(&self) -> bool {
        self.consecutive >= SLOW_AFTER
    }

    fn pause(&self) -> Duration {
        doubled(PAUSE, self.pauses)
    }

    fn next(&self) -> Timestamp {
        self.tried.map_or(self.until, |tried| self.until.max(tried + self.pause()))
    }
}

fn change(kind: Kind, reason: String) -> Change {
    Change { kind, instances: Vec::new(), count: 0, reason, token: None }
}

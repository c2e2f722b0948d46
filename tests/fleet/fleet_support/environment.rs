//! State shared by the parts of the simulated world: virtual time, random numbers, scheduled events, and the event log.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use rollcall::fleet::Event;

use super::{plan::Plan, rng::Rng};

/// Milliseconds of virtual time.
pub type Ms = u64;

/// A scheduled event of the simulated world. A machine's `boot` is incremented at each boot, so that events scheduled
/// for an earlier boot do not apply to a later one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorldEvent {
    Arrive {
        jobs: u32,
    },
    /// A call is carried out.
    Apply {
        call: usize,
    },
    /// The answer to a call comes back.
    Respond {
        call: usize,
    },
    Up {
        machine: usize,
        boot: u32,
    },
    Finish {
        machine: usize,
        boot: u32,
    },
    Idle {
        machine: usize,
        boot: u32,
    },
    Down {
        machine: usize,
        boot: u32,
    },
    Gone {
        machine: usize,
    },
    PowerOff {
        machine: usize,
        boot: u32,
    },
    Vanish {
        machine: usize,
    },
    /// The controller crashes.
    Crash,
    /// A controller starts.
    Start,
}

pub struct Environment {
    pub now: Ms,
    pub plan: Plan,
    pub rng: Rng,
    scheduled: BinaryHeap<Reverse<(Ms, u64, WorldEvent)>>,
    sequence: u64,
    /// Events for the controller.
    pub outbox: Vec<Event>,
    /// How often each fault and action occurred: a history without faults proves nothing.
    pub occurrences: BTreeMap<&'static str, u64>,
    /// The event log as text, if enabled.
    pub log: Option<Vec<String>>,
}

impl Environment {
    pub fn new(plan: Plan) -> Self {
        Self {
            now: 0,
            rng: Rng::new(plan.seed ^ 0x9e37_79b9_7f4a_7c15),
            scheduled: BinaryHeap::new(),
            sequence: 0,
            outbox: Vec::new(),
            occurrences: BTreeMap::new(),
            log: None,
            plan,
        }
    }

    pub fn schedule(&mut self, delay: Ms, what: WorldEvent) {
        self.sequence += 1;
        self.scheduled.push(Reverse((self.now + delay, self.sequence, what)));
    }

    /// Returns the time of the next event.
    pub fn next_at(&self) -> Option<Ms> {
        self.scheduled.peek().map(|Reverse((at, ..))| *at)
    }

    /// Removes the next event and advances the time to it.
    pub fn next(&mut self) -> Option<WorldEvent> {
        let Reverse((at, _, what)) = self.scheduled.pop()?;
        self.now = self.now.max(at);
        Some(what)
    }

    /// Draws whether a fault is injected now. None is injected once `faults_end` is reached.
    pub fn draw_fault(&mut self, percent: u32) -> bool {
        self.now < self.plan.faults_end && self.rng.percent(percent)
    }

    pub fn count(&mut self, what: &'static str) {
        *self.occurrences.entry(what).or_default() += 1;
    }

    pub fn log_line(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>7} ms  {}", self.now, what()));
        }
    }
}

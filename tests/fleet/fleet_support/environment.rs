//! What the parts of the world share: virtual time, random numbers, what will happen, and what has happened.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use rollcall::fleet::Event;

use super::{plan::Plan, rng::Rng};

/// Milliseconds of virtual time.
pub type Ms = u64;

/// What will happen. A machine's `boot` changes with each boot, so that nothing planned for an earlier boot applies to
/// a later one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    Arrive {
        jobs: u32,
    },
    /// A call is carried out.
    Apply {
        call: usize,
    },
    /// The answer to a call comes back.
    Answer {
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
    agenda: BinaryHeap<Reverse<(Ms, u64, Happening)>>,
    sequence: u64,
    /// Events for the controller.
    pub outbox: Vec<Event>,
    /// What has happened, and how often: a history in which nothing goes wrong proves nothing.
    pub seen: BTreeMap<&'static str, u64>,
    /// What has happened, in words, if it is kept.
    pub log: Option<Vec<String>>,
}

impl Environment {
    pub fn new(plan: Plan) -> Self {
        Self {
            now: 0,
            rng: Rng::new(plan.seed ^ 0x9e37_79b9_7f4a_7c15),
            agenda: BinaryHeap::new(),
            sequence: 0,
            outbox: Vec::new(),
            seen: BTreeMap::new(),
            log: None,
            plan,
        }
    }

    pub fn later(&mut self, delay: Ms, what: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse((self.now + delay, self.sequence, what)));
    }

    /// Returns when the next thing happens.
    pub fn next_at(&self) -> Option<Ms> {
        self.agenda.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next thing to happen, and advances the time to it.
    pub fn next(&mut self) -> Option<Happening> {
        let Reverse((at, _, what)) = self.agenda.pop()?;
        self.now = self.now.max(at);
        Some(what)
    }

    /// Returns whether a fault happens now. No fault begins once the plan's calm has begun.
    pub fn fault(&mut self, percent: u32) -> bool {
        self.now < self.plan.calm && self.rng.percent(percent)
    }

    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>7} ms  {}", self.now, what()));
        }
    }
}

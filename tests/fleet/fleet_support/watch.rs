//! The promises, checked after everything that happens.

use std::collections::BTreeMap;

use rollcall::{
    cloud::InstanceId,
    fleet::{Action, Cause},
};

use super::world::{Ms, World};

/// Calls of one kind in a row, and the shortest time they may take: a burst of five, then two a second.
const PACE: [(usize, Ms); 2] = [(6, 499), (16, 5_499)];
/// Causes of terminations.
const CAUSES: usize = 5;
/// Reads of one kind are so far apart.
const GAP: Ms = 50;

#[derive(Default)]
pub struct Watch {
    /// Busy workers that were terminated.
    pub killed: Vec<InstanceId>,
    life: u64,
    /// Times of the calls of this life, by kind.
    calls: [Vec<Ms>; 5],
    /// What has happened, and how often: a history in which nothing goes wrong proves nothing.
    pub seen: BTreeMap<&'static str, u64>,
    too_fast: Option<String>,
}

impl Watch {
    pub fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub fn called(&mut self, life: u64, now: Ms, action: &Action) {
        if life != self.life {
            self.life = life;
            self.calls = Default::default();
        }
        let (kind, name) = match action {
            Action::ReadDepth => (0, "depth"),
            Action::Describe { .. } => (1, "describe"),
            Action::Launch { .. } => (2, "launch"),
            Action::Start { .. } => (3, "start"),
            Action::Terminate { .. } => (4, "terminate"),
        };
        self.saw(match action {
            Action::ReadDepth | Action::Describe { .. } => "read",
            Action::Launch { .. } => "launch",
            Action::Start { .. } => "start",
            Action::Terminate { cause: Cause::Sweep, .. } => "sweep",
            Action::Terminate { cause: Cause::BootTimeout, .. } => "boot timeout",
            Action::Terminate { cause: Cause::StopTimeout, .. } => "stop timeout",
            Action::Terminate { cause: Cause::Silent, .. } => "silent worker",
            Action::Terminate { cause: Cause::Again, .. } => "termination again",
        });
        let times = &mut self.calls[kind];
        times.push(now);
        let within = |n: usize| times.len().checked_sub(n).map(|first| now - times[first]);
        let too_fast = match kind {
            0 | 1 => within(2).is_some_and(|took| took < GAP),
            // Terminations of several causes may go out in one step.
            4 => PACE.iter().any(|(n, least)| within(n + CAUSES).is_some_and(|took| took < *least)),
            _ => PACE.iter().any(|(n, least)| within(*n).is_some_and(|took| took < *least)),
        };
        if too_fast {
            self.too_fast = Some(format!("{name} is called too often: {times:?}"));
        }
    }

    pub fn check(&mut self, world: &World) -> Result<(), String> {
        let cap = world.plan.rules.max_instances;
        let may_come: usize = world.may_come.values().sum();
        let live = world.live();
        if live + may_come > cap {
            return Err(format!("{live} instances live and {may_come} may come, with a cap of {cap}"));
        }
        if let Some(id) = self.killed.first() {
            return Err(format!("{id} was terminated at work"));
        }
        match self.too_fast.take() {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    pub fn never_ends(&self, world: &World) -> String {
        let states: Vec<String> =
            world.machines.iter().filter(|m| m.state.counts()).map(|m| format!("{} {:?}", m.id, m.state)).collect();
        format!(
            "it never ends: {} jobs visible, {} in flight, living: {states:?}, keep {}",
            world.visible, world.in_flight, world.plan.rules.keep_stopped
        )
    }
}

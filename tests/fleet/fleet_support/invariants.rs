//! The invariants of the core, checked after every event.

use rollcall::fleet::{Action, Cause, Step, Timestamp};

use super::{
    environment::{Environment, Ms},
    world::World,
};

/// Numbers of consecutive calls of one kind, and the shortest time they may take: a burst of five, then two per second.
const RATES: [(usize, Ms); 2] = [(6, 499), (16, 5_499)];
/// Number of causes of terminations, each of which may make a call in one step.
const CAUSES: usize = 7;
/// Shortest time between two reads of one kind.
const READ_INTERVAL: Ms = 50;

#[derive(Default)]
pub struct Invariants {
    epoch: u64,
    /// Times of the calls of this epoch, by kind.
    calls: [Vec<Ms>; 5],
    broken: Option<String>,
}

impl Invariants {
    /// Checks a step of the controller.
    pub fn stepped(&mut self, now: Timestamp, step: &Step) {
        match step.wake_at {
            Some(at) if at > now => {}
            other => self.broken = Some(format!("a step at {now:?} asks to be woken at {other:?}")),
        }
    }

    /// Checks a step for which the controller has not asked to be woken.
    pub fn probed(&mut self, at: Timestamp, step: &Step) {
        if !step.actions.is_empty() {
            self.broken = Some(format!("without having asked to be woken at {at:?}, it does {:?}", step.actions));
        }
    }

    /// Checks a call of the controller.
    pub fn called(&mut self, epoch: u64, action: &Action, env: &mut Environment) {
        if epoch != self.epoch {
            self.epoch = epoch;
            self.calls = Default::default();
        }
        let (kind, name) = match action {
            Action::ReadDepth => (0, "depth"),
            Action::Describe { .. } => (1, "describe"),
            Action::Launch { .. } => (2, "launch"),
            Action::Start { .. } => (3, "start"),
            Action::Terminate { .. } => (4, "terminate"),
        };
        env.count(match action {
            Action::ReadDepth | Action::Describe { .. } => "read",
            Action::Launch { .. } => "launch",
            Action::Start { .. } => "start",
            Action::Terminate { cause: Cause::Sweep, .. } => "sweep",
            Action::Terminate { cause: Cause::BootTimeout, .. } => "boot timeout",
            Action::Terminate { cause: Cause::StopTimeout, .. } => "stop timeout",
            Action::Terminate { cause: Cause::Silent, .. } => "silent worker",
            Action::Terminate { cause: Cause::Unresponsive, .. } => "unresponsive worker",
            Action::Terminate { cause: Cause::Outdated, .. } => "outdated",
            Action::Terminate { cause: Cause::Unobserved, .. } => "termination again",
        });
        let times = &mut self.calls[kind];
        times.push(env.now);
        let within = |n: usize| times.len().checked_sub(n).map(|first| env.now - times[first]);
        let too_fast = match kind {
            0 | 1 => within(2).is_some_and(|took| took < READ_INTERVAL),
            4 => RATES.iter().any(|(n, least)| within(n + CAUSES).is_some_and(|took| took < *least)),
            _ => RATES.iter().any(|(n, least)| within(*n).is_some_and(|took| took < *least)),
        };
        if too_fast {
            self.broken = Some(format!("{name} is called too often: {times:?}"));
        }
    }

    pub fn check(&mut self, world: &World) -> Result<(), String> {
        if let Some(problem) = self.broken.take() {
            return Err(problem);
        }
        let cap = world.env.plan.rules.max_instances;
        let (live, may_come) = (world.cluster.live(), world.calls.may_come(None));
        if live + may_come > cap {
            return Err(format!("{live} instances live and {may_come} may come, with a cap of {cap}"));
        }
        if let Some(id) = world.cluster.killed.first() {
            return Err(format!("{id} was terminated at work"));
        }
        let Some(core) = &world.core else { return Ok(()) };
        // An old description may show what is gone already.
        if world.env.plan.staleness == 0 && core.live() > cap {
            return Err(format!("the controller counts {} instances, with a cap of {cap}", core.live()));
        }
        // A controller cannot know of its predecessors' instances at once, but it must know of its own.
        if world.epoch == 0 && live + may_come > core.live() {
            return Err(format!("{live} live and {may_come} may come, and the controller counts {}", core.live()));
        }
        Ok(())
    }

    pub fn never_ends(world: &World) -> String {
        let states: Vec<String> = world
            .cluster
            .machines
            .iter()
            .filter(|m| m.state.counts())
            .map(|m| format!("{} {:?}", m.id, m.state))
            .collect();
        format!(
            "it never ends: {} jobs visible, {} in flight, living: {states:?}, keep {}",
            world.cluster.visible, world.cluster.in_flight, world.env.plan.rules.keep_stopped
        )
    }
}

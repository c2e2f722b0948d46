//! The invariants of the core, checked after every event.

use rollcall::{
    cloud::{InstanceId, InstanceState},
    fleet::{Action, Cause, Step, Timestamp},
};

use super::{
    cluster::{Cluster, Machine},
    environment::{Environment, Ms},
    world::{World, millis},
};

/// Numbers of consecutive calls of one kind, and the shortest time they may take: a burst of five, then two per second.
const RATES: [(usize, Ms); 2] = [(6, 499), (16, 5_499)];
/// Number of causes of terminations, each of which may make a call in one step.
const CAUSES: usize = 7;
/// Shortest time between two reads of one kind.
const READ_INTERVAL: Ms = 50;
/// Shortest pause between two boots of a degraded fleet.
const SHORTEST_PAUSE: Ms = 30_000;
/// Boots that may fail one after the other before the first pause.
const BOOTS_BEFORE: usize = 3;
/// Longest pause before a call that was throttled is repeated.
const SLOWEST_RETRY: Ms = 60_000;

/// Returns the longest time until the effect of a call is visible.
fn lag(env: &Environment) -> Ms {
    env.plan.rules.describe_lag.as_millis() as Ms
}

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

    /// Checks a degraded controller after a step. Its state began at `since`, and the step described `running`.
    pub fn degraded(&mut self, since: Ms, running: &[InstanceId], cluster: &Cluster, env: &Environment) {
        // A description that was requested when everything before was visible.
        let visible = |up: Ms| up + lag(env) + env.plan.call_delay < env.now;
        let up = cluster.machines.iter().filter(|m| running.contains(&m.id) && m.state == InstanceState::Running);
        if let Some(up) = up.filter_map(|m| m.up_since).find(|up| *up > since && visible(*up)) {
            self.broken = Some(format!("degraded since {since}, although an instance is up since {up}"));
        }
    }

    /// Checks how many instances boot while boots fail, whichever controller acts. Calls that are lost may be carried out at any time, so those
    /// histories are left to the other checks.
    fn check_boots(&self, world: &World) -> Result<(), String> {
        let plan = &world.env.plan;
        if plan.faults.lost > 0 {
            return Ok(());
        }
        if let Some(degraded) = world.core.as_ref().and_then(|core| core.degraded()) {
            // Calls that were under way then have been carried out.
            let retries = if plan.faults.throttled > 0 { SLOWEST_RETRY } else { 0 };
            let from = world.started + millis(degraded.since) + plan.call_delay + retries;
            let booting = |m: &&Machine| m.state == InstanceState::Pending && m.booted > from;
            let booting = world.cluster.machines.iter().filter(booting).count();
            if booting > 1 {
                return Err(format!("{booting} instances boot in a degraded fleet"));
            }
            let boots: Vec<Ms> = world.cluster.boots.iter().copied().filter(|at| *at > from).collect();
            if boots.windows(2).any(|pair| pair[1] - pair[0] + plan.call_delay < SHORTEST_PAUSE) {
                return Err(format!("a degraded fleet boots too often: {boots:?}"));
            }
        }
        if let Some(broken) = plan.broken.as_ref().filter(|_| world.epoch == 0) {
            let boots = world.cluster.boots.iter().filter(|at| broken.contains(at)).count();
            let most =
                BOOTS_BEFORE + 2 * plan.rules.max_instances + ((broken.end - broken.start) / SHORTEST_PAUSE) as usize;
            if boots > most {
                return Err(format!("{boots} boots, although none succeeds"));
            }
        }
        Ok(())
    }

    pub fn check(&mut self, world: &World) -> Result<(), String> {
        if let Some(problem) = self.broken.take() {
            return Err(problem);
        }
        self.check_boots(world)?;
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

//! Simulated instances: the six states, descriptions that lag, and what is billed.

use std::collections::BTreeMap;

use super::{
    Time,
    usage::{LEAST_BILLED, Usage},
};
use crate::fleet::{Instance, InstanceId, InstanceState};

/// EC2 lists terminated instances for about so long.
const LISTED_AFTER_END: Time = Time::from_secs(3600);

/// One instance.
pub struct Machine {
    pub id: InstanceId,
    name: String,
    token: String,
    created: Time,
    /// How often it has been told to boot: what was planned for an earlier boot is void.
    pub boots: u32,
    /// Its states since when, oldest first.
    past: Vec<(Time, InstanceState)>,
}

impl Machine {
    pub fn state(&self) -> InstanceState {
        self.past.last().map_or(InstanceState::Terminated, |(_, state)| *state)
    }

    /// Since when it is in its state.
    pub fn since(&self) -> Time {
        self.past.last().map_or(Time::ZERO, |(since, _)| *since)
    }

    fn state_at(&self, at: Time) -> Option<InstanceState> {
        let later = self.past.partition_point(|(since, _)| *since <= at);
        self.past.get(later.checked_sub(1)?).map(|(_, state)| *state)
    }
}

/// All instances of the cluster.
pub struct Machines {
    prefix: String,
    all: Vec<Machine>,
    by_id: BTreeMap<InstanceId, usize>,
    by_token: BTreeMap<String, Vec<usize>>,
    /// Those that a description may show.
    listed: Vec<usize>,
    /// By state, in the order of [`InstanceState::ALL`].
    counts: [usize; 6],
}

impl Machines {
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            all: Vec::new(),
            by_id: BTreeMap::new(),
            by_token: BTreeMap::new(),
            listed: Vec::new(),
            counts: [0; 6],
        }
    }

    pub fn get(&self, machine: usize) -> &Machine {
        &self.all[machine]
    }

    pub fn find(&self, id: &InstanceId) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// What an earlier launch with this token made.
    pub fn of_token(&self, token: &str) -> Option<Vec<InstanceId>> {
        let made = self.by_token.get(token)?;
        Some(made.iter().map(|m| self.all[*m].id.clone()).collect())
    }

    pub fn count(&self, state: InstanceState) -> usize {
        self.counts[state as usize]
    }

    /// A new instance. It has no state until [`Self::turn`] gives it one.
    pub fn create(&mut self, token: &str, now: Time) -> usize {
        let machine = self.all.len();
        let id = InstanceId(format!("i-{machine:017x}"));
        self.by_id.insert(id.clone(), machine);
        self.by_token.entry(token.to_owned()).or_default().push(machine);
        self.listed.push(machine);
        let name = format!("{}{}", self.prefix, machine + 1);
        self.all.push(Machine { id, name, token: token.to_owned(), created: now, boots: 0, past: Vec::new() });
        machine
    }

    /// Counts one more boot.
    pub fn boot(&mut self, machine: usize) -> u32 {
        self.all[machine].boots += 1;
        self.all[machine].boots
    }

    /// A change of state, and what is to be paid for the state before.
    pub fn turn(&mut self, machine: usize, to: InstanceState, now: Time, usage: &mut Usage) {
        if !self.all[machine].past.is_empty() {
            self.counts[self.all[machine].state() as usize] -= 1;
            self.settle(machine, now, usage);
        }
        self.counts[to as usize] += 1;
        self.all[machine].past.push((now, to));
        if to == InstanceState::Terminated {
            usage.existed += now - self.all[machine].created;
            usage.terminations += 1;
        }
    }

    fn settle(&self, machine: usize, now: Time, usage: &mut Usage) {
        let spent = now.saturating_sub(self.all[machine].since());
        match self.all[machine].state() {
            InstanceState::Running => usage.billed += spent.max(LEAST_BILLED),
            InstanceState::Stopped => usage.stopped += spent,
            InstanceState::Pending
            | InstanceState::Stopping
            | InstanceState::ShuttingDown
            | InstanceState::Terminated => {}
        }
    }

    /// Adds what is to be paid for instances that are still there at the end.
    pub fn settle_all(&self, end: Time, usage: &mut Usage) {
        for (machine, m) in self.all.iter().enumerate() {
            if m.state() != InstanceState::Terminated {
                self.settle(machine, end, usage);
                usage.existed += end.saturating_sub(m.created);
            }
        }
    }

    /// Whether no instance is on its way to another state or running.
    pub fn at_rest(&self) -> bool {
        use InstanceState::{Pending, Running, ShuttingDown, Stopping};
        [Pending, Running, Stopping, ShuttingDown].into_iter().all(|state| self.count(state) == 0)
    }

    /// The list as it was at `at`.
    pub fn describe(&mut self, at: Time) -> Vec<Instance> {
        let all = &self.all;
        self.listed.retain(|m| all[*m].state() != InstanceState::Terminated || all[*m].since() + LISTED_AFTER_END > at);
        let shown = self.listed.iter().filter_map(|m| {
            let machine = &all[*m];
            Some(Instance {
                id: machine.id.clone(),
                name: machine.name.clone(),
                state: machine.state_at(at)?,
                token: machine.token.clone(),
                pid: None,
                reason: None,
            })
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_billed_a_minute_at_least_and_stopped_time_is_not() {
        let s = Time::from_secs;
        let (mut machines, mut usage) = (Machines::new("x-"), Usage::default());
        let m = machines.create("t", s(0));
        for (at, state) in [
            (0, InstanceState::Pending),
            (10, InstanceState::Running),
            (20, InstanceState::Stopping),
            (40, InstanceState::Stopped),
            (140, InstanceState::Pending),
            (150, InstanceState::Running),
            (350, InstanceState::Stopping),
        ] {
            machines.turn(m, state, s(at), &mut usage);
        }
        assert_eq!((usage.billed, usage.stopped), (s(60 + 200), s(100)));
        let seen = |machines: &mut Machines, at| machines.describe(s(at)).first().map(|i| i.state);
        assert_eq!(seen(&mut machines, 15), Some(InstanceState::Running));
        assert_eq!(seen(&mut machines, 39), Some(InstanceState::Stopping));
        machines.settle_all(s(400), &mut usage);
        assert_eq!((usage.billed, usage.existed), (s(260), s(400)));
    }
}

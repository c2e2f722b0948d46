//! Simulated EC2 instances: their states, lagging descriptions, and billed time.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Time,
    usage::{MIN_BILLED, Usage},
};
use rollcall_fleet::{Instance, InstanceId, InstanceState};

/// How long EC2 lists an instance after its termination.
const LISTED_AFTER_END: Duration = Duration::from_secs(3600);

/// An instance's index in order of creation.
pub type InstanceIndex = usize;

/// One boot of an instance. Events refer to it, so that they do not apply to a later boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId {
    pub instance: InstanceIndex,
    generation: u32,
}

/// One instance.
pub struct SimInstance {
    pub id: InstanceId,
    name: String,
    token: String,
    created: Time,
    /// Incremented by each boot and by a shutdown.
    generation: u32,
    /// Its states, each with the time from which it holds, oldest first.
    past: Vec<(Time, InstanceState)>,
}

impl SimInstance {
    /// Returns the current state.
    pub fn state(&self) -> InstanceState {
        self.past.last().map_or(InstanceState::Terminated, |(_, state)| *state)
    }

    /// Returns the time from which the current state holds.
    pub fn since(&self) -> Time {
        self.past.last().map_or(Time::ZERO, |(since, _)| *since)
    }

    fn state_at(&self, at: Time) -> Option<InstanceState> {
        let later = self.past.partition_point(|(since, _)| *since <= at);
        self.past.get(later.checked_sub(1)?).map(|(_, state)| *state)
    }
}

/// All instances of the cluster.
pub struct Instances {
    name_prefix: String,
    all: Vec<SimInstance>,
    by_id: BTreeMap<InstanceId, InstanceIndex>,
    by_token: BTreeMap<String, Vec<InstanceIndex>>,
    /// Those that a description may show.
    listed: Vec<InstanceIndex>,
    /// By state, in the order of [`InstanceState::ALL`].
    counts: [usize; 6],
}

impl Instances {
    pub fn new(name_prefix: &str) -> Self {
        Self {
            name_prefix: name_prefix.to_owned(),
            all: Vec::new(),
            by_id: BTreeMap::new(),
            by_token: BTreeMap::new(),
            listed: Vec::new(),
            counts: [0; 6],
        }
    }

    pub fn get(&self, instance: InstanceIndex) -> &SimInstance {
        &self.all[instance]
    }

    pub fn find(&self, id: &InstanceId) -> Option<InstanceIndex> {
        self.by_id.get(id).copied()
    }

    /// Returns the instances that an earlier launch with this token created.
    pub fn by_token(&self, token: &str) -> Option<Vec<InstanceId>> {
        let created = self.by_token.get(token)?;
        Some(created.iter().map(|m| self.all[*m].id.clone()).collect())
    }

    /// Returns the number of instances in a state.
    pub fn count(&self, state: InstanceState) -> usize {
        self.counts[state as usize]
    }

    /// Creates an instance. It has no state until [`Self::set_state`] gives it one.
    pub fn create(&mut self, token: &str, now: Time) -> InstanceIndex {
        let instance = self.all.len();
        let id = InstanceId(format!("i-{instance:017x}"));
        self.by_id.insert(id.clone(), instance);
        self.by_token.entry(token.to_owned()).or_default().push(instance);
        self.listed.push(instance);
        let name = format!("{}{}", self.name_prefix, instance + 1);
        let token = token.to_owned();
        self.all.push(SimInstance { id, name, token, created: now, generation: 0, past: Vec::new() });
        instance
    }

    /// Begins a new boot, or a shutdown: events of earlier boots no longer apply.
    pub fn next_boot(&mut self, instance: InstanceIndex) -> BootId {
        self.all[instance].generation += 1;
        self.current_boot(instance)
    }

    pub fn current_boot(&self, instance: InstanceIndex) -> BootId {
        BootId { instance, generation: self.all[instance].generation }
    }

    /// Returns whether `boot` is the instance's current boot.
    pub fn is_current(&self, boot: BootId) -> bool {
        self.current_boot(boot.instance) == boot
    }

    /// Changes an instance's state and bills the time in its previous state.
    pub fn set_state(&mut self, instance: InstanceIndex, to: InstanceState, now: Time, usage: &mut Usage) {
        if !self.all[instance].past.is_empty() {
            self.counts[self.all[instance].state() as usize] -= 1;
            self.bill(instance, now, usage);
        }
        self.counts[to as usize] += 1;
        self.all[instance].past.push((now, to));
        if to == InstanceState::Terminated {
            usage.disk_time += now - self.all[instance].created;
            usage.terminations += 1;
        }
    }

    fn bill(&self, instance: InstanceIndex, now: Time, usage: &mut Usage) {
        let spent = now.saturating_sub(self.all[instance].since());
        match self.all[instance].state() {
            InstanceState::Running => usage.billed += spent.max(MIN_BILLED),
            InstanceState::Stopped => usage.stopped += spent,
            InstanceState::Pending
            | InstanceState::Stopping
            | InstanceState::ShuttingDown
            | InstanceState::Terminated => {}
        }
    }

    /// Bills the instances that still exist at the end of the run.
    pub fn bill_remaining(&self, end: Time, usage: &mut Usage) {
        for (instance, i) in self.all.iter().enumerate() {
            if i.state() != InstanceState::Terminated {
                self.bill(instance, end, usage);
                usage.disk_time += end.saturating_sub(i.created);
            }
        }
    }

    /// Returns whether all instances are stopped or terminated.
    pub fn at_rest(&self) -> bool {
        use InstanceState::{Pending, Running, ShuttingDown, Stopping};
        [Pending, Running, Stopping, ShuttingDown].into_iter().all(|state| self.count(state) == 0)
    }

    /// Describes the instances as they were at `at`.
    pub fn describe(&mut self, at: Time) -> Vec<Instance> {
        let all = &self.all;
        self.listed.retain(|i| all[*i].state() != InstanceState::Terminated || all[*i].since() + LISTED_AFTER_END > at);
        let shown = self.listed.iter().filter_map(|i| {
            let instance = &all[*i];
            Some(Instance {
                id: instance.id.clone(),
                name: instance.name.clone(),
                state: instance.state_at(at)?,
                token: instance.token.clone(),
                pid: None,
                reason: None,
                unresponsive: false,
                outdated: false,
                came_up: None,
            })
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Time {
        Time::from_secs(seconds)
    }

    fn seen(instances: &mut Instances, at: u64) -> Option<InstanceState> {
        instances.describe(s(at)).first().map(|i| i.state)
    }

    #[test]
    fn a_start_is_billed_for_at_least_a_minute_and_stopped_time_is_not() {
        let (mut instances, mut usage) = (Instances::new("x-"), Usage::default());
        let i = instances.create("t", s(0));
        for (at, state) in [
            (0, InstanceState::Pending),
            (10, InstanceState::Running),
            (20, InstanceState::Stopping),
            (40, InstanceState::Stopped),
            (140, InstanceState::Pending),
            (150, InstanceState::Running),
            (350, InstanceState::Stopping),
        ] {
            instances.set_state(i, state, s(at), &mut usage);
        }
        assert_eq!((usage.billed, usage.stopped), (s(60 + 200), s(100)));
        assert_eq!(seen(&mut instances, 15), Some(InstanceState::Running));
        assert_eq!(seen(&mut instances, 39), Some(InstanceState::Stopping));
        instances.bill_remaining(s(400), &mut usage);
        assert_eq!((usage.billed, usage.disk_time), (s(260), s(400)));
    }

    #[test]
    fn a_terminated_instance_is_listed_for_an_hour_but_no_longer_billed() {
        let (mut instances, mut usage) = (Instances::new("x-"), Usage::default());
        let i = instances.create("t", s(100));
        assert_eq!(seen(&mut instances, 100), None, "it has no state yet");
        for (at, state) in
            [(100, InstanceState::Stopped), (200, InstanceState::ShuttingDown), (230, InstanceState::Terminated)]
        {
            instances.set_state(i, state, s(at), &mut usage);
        }
        assert_eq!(seen(&mut instances, 99), None, "it did not exist");
        assert_eq!(seen(&mut instances, 229), Some(InstanceState::ShuttingDown));
        assert_eq!(seen(&mut instances, 230 + 3599), Some(InstanceState::Terminated));
        assert_eq!(seen(&mut instances, 230 + 3600), None);
        instances.bill_remaining(s(9000), &mut usage);
        assert_eq!((usage.disk_time, usage.stopped, usage.terminations), (s(130), s(100), 1));
    }

    #[test]
    fn events_of_an_earlier_boot_no_longer_apply() {
        let mut instances = Instances::new("x-");
        let i = instances.create("t", s(0));
        let first = instances.next_boot(i);
        assert!(instances.is_current(first));
        let second = instances.next_boot(i);
        assert!(!instances.is_current(first) && instances.is_current(second));
    }
}

//! Every instance of the cluster: what was last seen of it, and what is intended for it.
//!
//! Each instance plays one [`Role`], by which it is kept in an ordered set, so that a decision costs the same with ten
//! instances as with ten thousand: counts are the sizes of sets, and the next to time out is the first of its set.

use std::collections::{BTreeSet, HashMap};

use slab::Slab;

use super::{
    Time,
    calls::LOST,
    instance::{Instance, InstanceId, InstanceState},
    view::Counts,
};

/// Handle of an instance, valid until it is forgotten.
pub(super) type Key = usize;

/// How an instance was brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// New.
    Cold,
    /// Stopped before.
    Warm,
}

/// A start of a stopped instance, asked for and not seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub asked: Time,
    /// The call under way, and since when.
    pub calling: Option<Time>,
    /// When to call again, because the last answer was lost.
    pub retry_at: Option<Time>,
    /// When the cloud said yes.
    pub answered: Option<Time>,
    /// Descriptions asked for later that still showed it stopped.
    pub still_stopped: u32,
    pub failures: u32,
}

impl Start {
    /// When to call again.
    pub fn due(&self) -> Option<Time> {
        self.retry_at.or(self.calling.map(|since| since + LOST))
    }
}

/// A termination, asked for and not seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Termination {
    /// When to call again, if it does not show before.
    pub due: Time,
    /// Answers lost: it may have been carried out.
    pub failures: u32,
    /// It is wanted though the instance runs.
    pub though_running: bool,
}

/// One instance.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub instance: Instance,
    /// When it was first seen in this state.
    pub since: Time,
    /// Number of the last description that showed it.
    pub shown: u64,
    /// Descriptions in a row that did not show it, and when the first of them was.
    pub missed: Option<(u32, Time)>,
    /// How and when it was asked to come up, until it has.
    pub boot: Option<(Boot, Time)>,
    pub start: Option<Start>,
    pub termination: Option<Termination>,
    /// The last sign of life of its worker.
    pub heard: Time,
    /// Starts in a row that came to nothing; no start before the time.
    pub failed_starts: u32,
    pub start_after: Time,
    /// When a start came to nothing: until the cloud has shown it stopped for long enough since, it may yet have started.
    pub doubt: Time,
}

/// An instance that was not shown by so many descriptions in a row serves no more; it may still exist.
pub(super) const MISSED: u32 = 3;

/// What an instance is to the decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// On its way up.
    Booting,
    Running,
    /// Stopped, and asked to start.
    Starting,
    /// Stopped.
    Startable,
    Stopping,
    /// To be terminated, or not shown any more: it has its place under the cap and does nothing.
    Terminating,
    Missing,
    /// Shutting down or terminated.
    Gone,
}

const ROLES: usize = 8;

impl Slot {
    pub fn role(&self) -> Role {
        match self.instance.state {
            InstanceState::ShuttingDown | InstanceState::Terminated => Role::Gone,
            _ if self.termination.is_some() => Role::Terminating,
            _ if self.missed.is_some_and(|(n, _)| n >= MISSED) => Role::Missing,
            InstanceState::Pending => Role::Booting,
            InstanceState::Running => Role::Running,
            InstanceState::Stopping => Role::Stopping,
            InstanceState::Stopped if self.start.is_some() => Role::Starting,
            InstanceState::Stopped => Role::Startable,
        }
    }

    /// The order within a set: since when it plays its role; of those that leave, when they are due.
    fn played_since(&self) -> Time {
        match self.role() {
            Role::Booting | Role::Running => self.since.max(self.heard),
            Role::Missing => self.missed.map_or(self.since, |(_, at)| at),
            Role::Starting => self.start.map_or(self.since, |s| s.asked),
            Role::Terminating => self.termination.map_or(self.since, |t| t.due),
            Role::Startable => self.since.max(self.doubt),
            Role::Stopping | Role::Gone => self.since,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Instances {
    slots: Slab<Slot>,
    by_id: HashMap<InstanceId, Key>,
    by_role: [BTreeSet<(Time, Key)>; ROLES],
    by_state: [usize; InstanceState::ALL.len()],
    /// The keys in the order of the last description: the next one is likely to be alike.
    order: Vec<Key>,
}

impl Instances {
    pub fn key(&self, id: &InstanceId) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    pub fn slot(&self, key: Key) -> &Slot {
        &self.slots[key]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|(_, slot)| slot)
    }

    /// Keys of a role with since when they play it (of those that leave: when they are due), oldest first.
    pub fn of(&self, role: Role) -> impl DoubleEndedIterator<Item = (Time, Key)> + '_ {
        self.by_role[role as usize].iter().copied()
    }

    pub fn count(&self, role: Role) -> usize {
        self.by_role[role as usize].len()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Instances that count against the cap.
    pub fn live(&self) -> usize {
        self.len() - self.count(Role::Gone)
    }

    pub fn counts(&self) -> Counts {
        let n = |state: InstanceState| self.by_state[state as usize];
        Counts {
            pending: n(InstanceState::Pending),
            running: n(InstanceState::Running),
            stopping: n(InstanceState::Stopping),
            stopped: n(InstanceState::Stopped),
            shutting_down: n(InstanceState::ShuttingDown),
            terminated: n(InstanceState::Terminated),
        }
    }

    /// Adds an instance that is not known.
    pub fn add(&mut self, slot: Slot) -> Key {
        let id = slot.instance.id.clone();
        self.by_state[slot.instance.state as usize] += 1;
        let (role, since) = (slot.role(), slot.played_since());
        let key = self.slots.insert(slot);
        self.by_role[role as usize].insert((since, key));
        self.by_id.insert(id, key);
        key
    }

    /// Changes an instance and whatever is counted of it.
    pub fn update(&mut self, key: Key, change: impl FnOnce(&mut Slot)) {
        let slot = &mut self.slots[key];
        let before = (slot.role(), slot.played_since(), slot.instance.state);
        change(slot);
        let after = (slot.role(), slot.played_since(), slot.instance.state);
        if before != after {
            self.by_role[before.0 as usize].remove(&(before.1, key));
            self.by_role[after.0 as usize].insert((after.1, key));
            self.by_state[before.2 as usize] -= 1;
            self.by_state[after.2 as usize] += 1;
        }
    }

    pub fn forget(&mut self, key: Key) {
        let slot = self.slots.remove(key);
        self.by_role[slot.role() as usize].remove(&(slot.played_since(), key));
        self.by_state[slot.instance.state as usize] -= 1;
        self.by_id.remove(&slot.instance.id);
    }

    /// Walks a description: calls `same` for instances that are shown as they were, cheaply when they come in the order
    /// of last time, and gives back those that are new or have changed.
    pub fn compare(&mut self, number: u64, described: Vec<Instance>) -> Vec<(Option<Key>, Instance)> {
        let last = std::mem::take(&mut self.order);
        self.order.reserve(described.len());
        let mut expected = last.iter().peekable();
        let mut changed = Vec::new();
        for instance in described {
            let key = match expected.peek() {
                Some(&&key) if self.slots.get(key).is_some_and(|s| s.instance.id == instance.id) => {
                    expected.next();
                    Some(key)
                }
                _ => self.by_id.get(&instance.id).copied(),
            };
            self.order.extend(key);
            match key.map(|key| (key, &mut self.slots[key])) {
                Some((_, slot))
                    if slot.instance.state == instance.state
                        && slot.instance.reason == instance.reason
                        && slot.instance.pid == instance.pid
                        && slot.missed.is_none()
                        && slot.start.is_none() =>
                {
                    slot.shown = number;
                }
                _ => changed.push((key, instance)),
            }
        }
        changed
    }

    /// Known instances that description `number` did not show.
    pub fn not_shown(&self, number: u64) -> Vec<Key> {
        self.slots.iter().filter(|(_, slot)| slot.shown < number).map(|(key, _)| key).collect()
    }
}

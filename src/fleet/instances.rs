//! The registry of the cluster's instances.
//!
//! Each instance has one [`Role`] and is kept in the ordered set of that role. A decision therefore does not look at
//! every instance: counts are the sizes of sets, and the next instance to time out is the first of its set.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use slab::Slab;

use super::{
    counts::Counts,
    instance::{Instance, InstanceId, InstanceState},
    timestamp::Timestamp,
    tracked::{Boot, Observed, Role, Startup, Termination, Tracked},
};

/// Handle to an instance, valid until the instance is removed.
pub(super) type Key = usize;

/// Indexes instances by identifier and by role.
#[derive(Clone, Debug, Default)]
pub(super) struct Instances {
    tracked: Slab<Tracked>,
    by_id: HashMap<InstanceId, Key>,
    by_role: [BTreeSet<(Timestamp, Key)>; Role::COUNT],
    by_state: [usize; InstanceState::ALL.len()],
    outdated_running: usize,
    /// Running instances whose worker has not finished a job since its boot.
    unproven: BTreeSet<Key>,
    /// The keys in the order of the last description. The next description is likely to have the same order.
    described: Vec<Key>,
}

impl Instances {
    pub fn key(&self, id: &InstanceId) -> Option<Key> {
        self.by_id.get(id).copied()
    }

    pub fn get(&self, key: Key) -> &Tracked {
        &self.tracked[key]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Tracked> {
        self.tracked.iter().map(|(_, tracked)| tracked)
    }

    pub fn ids(&self, keys: &[Key]) -> Vec<InstanceId> {
        keys.iter().map(|key| self.tracked[*key].instance.id.clone()).collect()
    }

    /// Iterates over the instances of a role, in the order of [`Tracked::order`], oldest first.
    pub fn of(&self, role: Role) -> impl DoubleEndedIterator<Item = (Timestamp, Key)> + '_ {
        self.by_role[role as usize].iter().copied()
    }

    pub fn count(&self, role: Role) -> usize {
        self.by_role[role as usize].len()
    }

    pub fn len(&self) -> usize {
        self.tracked.len()
    }

    /// Returns the number of instances that count against the cap.
    pub fn live(&self) -> usize {
        self.len() - self.count(Role::Gone)
    }

    /// Returns the number of pending instances, whatever is intended for them.
    pub fn pending(&self) -> usize {
        self.by_state[InstanceState::Pending as usize]
    }

    /// Returns the number of running instances that were launched from an earlier version.
    pub fn outdated_running(&self) -> usize {
        self.outdated_running
    }

    /// Returns the number of instances that are serving or soon will be.
    pub fn serving(&self) -> usize {
        self.count(Role::Booting) + self.count(Role::Running) + self.count(Role::Starting)
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

    /// Adds an instance whose id is not known yet.
    pub fn insert(&mut self, tracked: Tracked) {
        let id = tracked.instance.id.clone();
        self.by_state[tracked.instance.state as usize] += 1;
        self.outdated_running += usize::from(tracked.is_outdated_running());
        let (role, order) = (tracked.role(), tracked.order());
        let key = self.tracked.insert(tracked);
        self.by_role[role as usize].insert((order, key));
        self.by_id.insert(id, key);
        self.update_unproven(key);
    }

    fn update_unproven(&mut self, key: Key) {
        let tracked = &self.tracked[key];
        if tracked.unproven.is_some() && !tracked.assumed_ready && tracked.role() == Role::Running {
            self.unproven.insert(key);
        } else {
            self.unproven.remove(&key);
        }
    }

    /// Iterates over the running instances whose worker has not finished a job since its boot.
    pub fn unproven(&self) -> impl Iterator<Item = (Boot, Key)> + '_ {
        self.unproven.iter().filter_map(|key| Some((self.tracked[*key].unproven?, *key)))
    }

    /// Records that an instance has been booting for so long that its worker must be ready.
    pub fn assume_ready(&mut self, key: Key) {
        self.update(key, |tracked| tracked.assumed_ready = true);
    }

    pub fn remove(&mut self, key: Key) -> Instance {
        let tracked = self.tracked.remove(key);
        self.by_role[tracked.role() as usize].remove(&(tracked.order(), key));
        self.by_state[tracked.instance.state as usize] -= 1;
        self.outdated_running -= usize::from(tracked.is_outdated_running());
        self.unproven.remove(&key);
        self.by_id.remove(&tracked.instance.id);
        tracked.instance
    }

    /// Records that an instance's worker has finished a job. Returns its latest boot if it is the first job after it.
    pub fn served(&mut self, id: &InstanceId, now: Timestamp) -> Option<Boot> {
        let key = self.key(id)?;
        self.update(key, |tracked| {
            tracked.last_served = now;
            tracked.unproven.take()
        })
    }

    /// Returns how many running instances have been running for longer than this one, which runs.
    pub fn running_before(&self, key: Key) -> usize {
        let own = (self.get(key).since, key);
        self.of(Role::Running).filter(|(_, other)| (self.get(*other).since, *other) < own).count()
    }

    /// Changes the part of an instance's state that the starts phase owns.
    pub fn update_startup(&mut self, key: Key, change: impl FnOnce(&mut Startup)) {
        self.update(key, |tracked| {
            change(&mut tracked.startup);
            if let Some(boot) = tracked.startup.boot
                && tracked.unproven.is_none_or(|last| last.requested < boot.requested)
            {
                (tracked.unproven, tracked.assumed_ready) = (Some(boot), false);
            }
        });
    }

    /// Changes the part of an instance's state that the terminations phase owns.
    pub fn update_termination(&mut self, key: Key, change: impl FnOnce(&mut Option<Termination>)) {
        self.update(key, |tracked| change(&mut tracked.termination));
    }

    /// See [`Tracked::observe`].
    pub fn observe(
        &mut self,
        key: Key,
        now: Timestamp,
        as_of: Timestamp,
        number: u64,
        instance: Instance,
        describe_lag: Duration,
    ) -> Observed {
        self.update(key, |tracked| tracked.observe(now, as_of, number, instance, describe_lag))
    }

    /// See [`Tracked::miss`].
    pub fn miss(&mut self, key: Key, as_of: Timestamp, describe_lag: Duration) -> bool {
        self.update(key, |tracked| tracked.miss(as_of, describe_lag))
    }

    /// Changes an instance and updates the sets.
    fn update<R>(&mut self, key: Key, change: impl FnOnce(&mut Tracked) -> R) -> R {
        let tracked = &mut self.tracked[key];
        let before = (tracked.role(), tracked.order(), tracked.instance.state);
        let was_outdated = tracked.is_outdated_running();
        let result = change(tracked);
        self.outdated_running += usize::from(tracked.is_outdated_running());
        self.outdated_running -= usize::from(was_outdated);
        let after = (tracked.role(), tracked.order(), tracked.instance.state);
        if before != after {
            self.by_role[before.0 as usize].remove(&(before.1, key));
            self.by_role[after.0 as usize].insert((after.1, key));
            self.by_state[before.2 as usize] -= 1;
            self.by_state[after.2 as usize] += 1;
        }
        self.update_unproven(key);
        result
    }

    /// Compares a description with the registry and returns the instances that are new or have changed. Instances in
    /// the order of the last description are found without a lookup.
    pub fn compare(&mut self, number: u64, described: Vec<Instance>) -> Vec<(Option<Key>, Instance)> {
        let last = std::mem::take(&mut self.described);
        self.described.reserve(described.len());
        let mut expected = last.iter().peekable();
        let mut changed = Vec::new();
        for instance in described {
            let key = match expected.peek() {
                Some(&&key) if self.tracked.get(key).is_some_and(|t| t.instance.id == instance.id) => {
                    expected.next();
                    Some(key)
                }
                _ => self.by_id.get(&instance.id).copied(),
            };
            self.described.extend(key);
            match key.map(|key| &mut self.tracked[key]) {
                Some(tracked) if tracked.is_as(&instance) => tracked.shown = number,
                _ => changed.push((key, instance)),
            }
        }
        changed
    }

    /// Returns the known instances that description `number` did not show.
    pub fn not_shown(&self, number: u64) -> Vec<Key> {
        self.tracked.iter().filter(|(_, tracked)| tracked.shown < number).map(|(key, _)| key).collect()
    }
}

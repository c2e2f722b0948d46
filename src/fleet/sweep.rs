//! The sweep: every `fleet.sweep_every`, stopped instances beyond what is kept are terminated.

use super::{
    action::Cause,
    calls::INSTANCES_PER_CALL,
    instances::{Instances, Key},
    removal::Removal,
    situation::Situation,
    timestamp::Timestamp,
    tracked::Role,
};

/// Consecutive failed starts after which a stopped instance is not worth keeping.
const USELESS: u32 = 3;

/// Chooses the stopped instances to terminate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    next: Timestamp,
    /// No launch before this time, because of `fleet.sweep_cooldown`.
    launches_not_before: Timestamp,
}

impl Sweep {
    pub fn new(first: Timestamp) -> Self {
        Self { next: first, launches_not_before: Timestamp::START }
    }

    /// Returns when the next sweep is due.
    pub fn next(&self) -> Timestamp {
        self.next
    }

    /// Returns when the cooldown after the last sweep ends. Nothing is launched before that.
    pub fn launches_not_before(&self) -> Timestamp {
        self.launches_not_before
    }

    /// Returns the stopped instances to terminate, if a sweep is due. `serving` is the number of instances that are
    /// serving or soon will be.
    pub fn removals(&mut self, situation: &Situation, instances: &Instances, serving: usize) -> Vec<Removal> {
        let (now, rules) = (situation.now, situation.rules);
        if now < self.next || !situation.shows_earlier_epochs {
            return Vec::new();
        }
        self.next = now + rules.sweep_every;
        let needed = situation.target.saturating_sub(serving);
        let keep = situation.keep_stopped.max(needed);
        // An instance that an old description shows as stopped may have been started since. Therefore only instances
        // that have been stopped for at least the maximum age of a description are swept.
        let sure = |(since, _): &(Timestamp, Key)| *since + rules.describe_lag <= situation.described_as_of;
        let stopped = instances.of(Role::Startable).take_while(sure).map(|(_, key)| key);
        let (useless, mut surplus): (Vec<Key>, Vec<Key>) =
            stopped.partition(|key| instances.get(*key).startup.failures >= USELESS);
        let usable = instances.count(Role::Startable) - useless.len();
        surplus.truncate(usable.saturating_sub(keep)); // the oldest
        if surplus.len().max(useless.len()) > INSTANCES_PER_CALL {
            self.next = now; // the rest follows with the next call
        }
        if !surplus.is_empty() || !useless.is_empty() {
            self.launches_not_before = now + rules.sweep_cooldown;
        }
        let kept = keep.min(usable);
        let why = || format!("swept: {usable} stopped, {kept} kept (fleet.keep_stopped), {needed} needed");
        let useless = Removal::of(useless, Cause::Sweep, || format!("{USELESS} starts failed"));
        useless.into_iter().chain(Removal::of(surplus, Cause::Sweep, why)).collect()
    }
}

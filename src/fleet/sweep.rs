//! Giving up what takes too long, and terminating: stopped instances beyond what is kept, and what is broken. Nothing that
//! works is ever terminated.
//!
//! Time alone proves nothing, because answers may be missing: what is given up is given up on the evidence of a description
//! (or a reading of the queue) that was asked for after the time was over.

use super::{
    Time,
    action::{Action, Cause},
    calls::{BATCH, LOST},
    explain::Kind,
    instance::InstanceId,
    instances::{Key, Role, Termination},
    state::FleetCore,
};

/// Starts in a row that came to nothing after which a stopped instance is not worth its place.
const USELESS: u32 = 3;

impl FleetCore {
    /// Forgets intents that have come to nothing.
    pub(super) fn time_out(&mut self) {
        let (now, timeout, evidence) = (self.now, self.rules.boot_timeout, self.evidence());
        let mut unseen = Vec::new();
        self.launches.0.retain(|_, launch| {
            let given_up = launch.answered.is_some_and(|at| at + timeout <= evidence);
            if given_up {
                unseen.extend(launch.unseen.iter().cloned());
            }
            !given_up
        });
        // They hold their places until the cloud has confirmed that they are gone.
        self.orphaned.extend(unseen.into_iter().map(|id| (id, now)));

        let late = |(asked, key): &(_, Key)| {
            let calling = self.instances.slot(*key).start.is_some_and(|s| s.calling.is_some());
            *asked + timeout <= now && !calling
        };
        let late: Vec<Key> = self.instances.of(Role::Starting).filter(late).map(|(_, key)| key).collect();
        for key in late {
            self.start_failed(key);
        }
    }

    /// Terminations that are due: new ones, each cause by itself, and those whose answer was lost.
    pub(super) fn terminate(&mut self, actions: &mut Vec<Action>) {
        let turns = &self.turns;
        if self.now < turns.terminate_after || !turns.terminate.ready(self.now) {
            return;
        }
        self.terminate_late(actions);
        self.sweep(actions);
        self.terminate_again(actions);
    }

    fn terminate_late(&mut self, actions: &mut Vec<Action>) {
        let timeout = self.rules.boot_timeout;
        let overdue = |core: &Self, role| -> Vec<Key> {
            let late = |(since, _): &(Time, Key)| *since + timeout <= core.evidence();
            core.instances.of(role).take_while(late).map(|(_, key)| key).collect()
        };
        let seconds = timeout.as_secs();
        let keys = overdue(self, Role::Booting);
        self.condemn(keys, Cause::BootTimeout, format!("not ready after {seconds} s"), actions);
        let keys = overdue(self, Role::Stopping);
        self.condemn(keys, Cause::StopTimeout, format!("not stopped after {seconds} s"), actions);
        if let Some((since, limit, why)) = self.silence() {
            let dead = |(heard, _): &(Time, Key)| (*heard).max(since) + limit <= self.demand.depth_at;
            let keys = self.instances.of(Role::Running).take_while(dead).map(|(_, key)| key).collect();
            self.condemn(keys, Cause::Silent, format!("nothing heard for {} s {why}", limit.as_secs()), actions);
        }
    }

    /// When the last description that was taken in had been asked for.
    fn evidence(&self) -> Time {
        self.described_at.unwrap_or_default()
    }

    /// Since when a living worker would have been heard of, or would have stopped itself; how long it may take for that.
    fn silence(&self) -> Option<(Time, Time, &'static str)> {
        let timeout = self.rules.silent_timeout?;
        let stop = self.rules.idle_stop.max(self.rules.billing_minimum);
        let hungry = self.demand.backlog_since.map(|since| (since, timeout, "while jobs waited"));
        let quiet = self.demand.empty_since.map(|since| (since, timeout + stop, "while there was nothing to do"));
        hungry.or(quiet)
    }

    fn sweep(&mut self, actions: &mut Vec<Action>) {
        if self.now < self.turns.next_sweep || !self.settled() {
            return;
        }
        self.turns.next_sweep = self.now + self.rules.sweep_every;
        let needed = self.target.saturating_sub(self.serving());
        let keep = self.rules.keep_stopped.max(needed);
        // An old picture may show an instance stopped that has been started since: what is swept must have been stopped for
        // as long as a picture can be old.
        let sure = |since| since + self.rules.describe_lag <= self.evidence();
        let stopped: Vec<Key> =
            self.instances.of(Role::Startable).filter(|(since, _)| sure(*since)).map(|(_, key)| key).collect();
        let (useless, mut good): (Vec<Key>, Vec<Key>) =
            stopped.into_iter().partition(|key| self.instances.slot(*key).failed_starts >= USELESS);
        let usable = self.instances.count(Role::Startable) - useless.len();
        good.truncate(usable.saturating_sub(keep)); // the oldest
        if good.len().max(useless.len()) > BATCH {
            self.turns.next_sweep = self.now; // the others have their turn with the next call
        }
        if !good.is_empty() || !useless.is_empty() {
            self.turns.launch_after = self.turns.launch_after.max(self.now + self.rules.sweep_cooldown);
        }
        self.condemn(useless, Cause::Sweep, format!("{USELESS} starts came to nothing"), actions);
        let reason =
            format!("swept: {usable} stopped, {} kept (fleet.keep_stopped), {needed} needed", keep.min(usable));
        self.condemn(good, Cause::Sweep, reason, actions);
    }

    /// Has up to [`BATCH`] of them terminated.
    fn condemn(&mut self, mut keys: Vec<Key>, cause: Cause, why: String, actions: &mut Vec<Action>) {
        keys.truncate(BATCH);
        if keys.is_empty() {
            return;
        }
        let ids: Vec<InstanceId> = keys.iter().map(|key| self.instances.slot(*key).instance.id.clone()).collect();
        let reason = format!("terminate {}: {why}", ids.len());
        self.explain(Kind::Terminate, ids.iter().map(|id| id.0.clone()).collect(), ids.len(), reason);
        let due = self.now + self.patience();
        let termination = Termination { due, failures: 0, though_running: cause == Cause::Silent };
        for key in keys {
            self.instances.update(key, |slot| slot.termination = Some(termination));
        }
        self.turns.terminate.take(self.now);
        actions.push(Action::Terminate { ids, cause });
    }

    /// How long a termination that was granted may take to show; then it was lost.
    fn patience(&self) -> Time {
        LOST + self.rules.describe_lag
    }

    fn terminate_again(&mut self, actions: &mut Vec<Action>) {
        let (now, again) = (self.now, self.now + self.patience());
        let leaving = self.instances.of(Role::Terminating);
        let keys: Vec<Key> = leaving.take_while(|(due, _)| *due <= now).map(|(_, key)| key).take(BATCH).collect();
        let mut ids: Vec<InstanceId> = keys.iter().map(|key| self.instances.slot(*key).instance.id.clone()).collect();
        for key in keys {
            self.instances.update(key, |slot| {
                if let Some(termination) = &mut slot.termination {
                    termination.due = again;
                }
            });
        }
        for (id, due) in &mut self.orphaned {
            if *due <= now {
                ids.push(id.clone());
                *due = again;
            }
        }
        if !ids.is_empty() {
            self.turns.terminate.take(now);
            actions.push(Action::Terminate { ids, cause: Cause::Again });
        }
    }
}

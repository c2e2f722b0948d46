//! Getting more: stopped instances first, then new ones; and asking again where an answer was lost.

use super::{
    action::Action,
    calls::{BATCH, LOST},
    explain::Kind,
    instance::InstanceId,
    instances::{Boot, Key, Role, Start},
    launches::Launch,
    state::FleetCore,
};

impl FleetCore {
    /// Starts and launches until there are as many as wanted or allowed.
    pub(super) fn grow(&mut self, actions: &mut Vec<Action>) {
        let mut wanted = self.target.saturating_sub(self.serving());
        if wanted == 0 {
            return;
        }
        // The latest stopped first: what the machine below may still hold of it is freshest.
        let startable = self.instances.of(Role::Startable).rev();
        let startable = startable.filter(|(_, key)| self.instances.slot(*key).start_after <= self.now);
        let mut keys: Vec<Key> = startable.map(|(_, key)| key).take(wanted).collect();
        wanted -= keys.len();
        keys.truncate(BATCH); // the others have their turn with the next call
        if !keys.is_empty() && self.turns.start.ready(self.now) {
            self.turns.start.take(self.now);
            let reason = format!("start {}: {}", keys.len(), self.numbers());
            let ids: Vec<InstanceId> = keys.iter().map(|key| self.instances.slot(*key).instance.id.clone()).collect();
            self.explain(Kind::Start, ids.iter().map(|id| id.0.clone()).collect(), ids.len(), reason);
            let now = self.now;
            for key in keys {
                let start = Start {
                    asked: now,
                    calling: Some(now),
                    retry_at: None,
                    answered: None,
                    still_stopped: 0,
                    failures: 0,
                };
                self.instances.update(key, |slot| {
                    slot.start = Some(start);
                    slot.boot = Some((Boot::Warm, now));
                });
            }
            actions.push(Action::Start { ids });
        }
        if wanted == 0 {
            return; // by far the most frequent: nothing is stopping that would have to be looked at
        }
        wanted = wanted.saturating_sub(self.soon_back());
        let count = wanted.min(self.cap().saturating_sub(self.live()));
        let turn = self.turns.launch_after <= self.now && self.turns.launch.ready(self.now);
        if count > 0 && turn && self.settled() {
            self.launch(count, actions);
        }
    }

    fn launch(&mut self, count: usize, actions: &mut Vec<Action>) {
        self.sequence += 1;
        let token = format!("{:x}-{:x}", self.epoch, self.sequence);
        let reason = format!("launch {count}: {}", self.numbers());
        self.explain_launch(Kind::Launch, Vec::new(), count, reason, Some(token.clone()));
        let launch = Launch { count, asked: self.now, calling: Some(self.now), ..Launch::default() };
        self.launches.0.insert(token.clone(), launch);
        self.turns.launch.take(self.now);
        self.turns.launch_after = self.now + self.rules.launch_cooldown;
        actions.push(Action::Launch { token, count });
    }

    /// Calls again where the answer was lost, or never came: with the same token, so that nothing is launched twice.
    pub(super) fn retry_launches(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        for (token, launch) in &mut self.launches.0 {
            if launch.calling.is_some_and(|since| since + LOST <= now) {
                (launch.calling, launch.doubt, launch.retry_at) = (None, Some(now), Some(now));
            }
            if launch.retry_at.is_some_and(|at| at <= now) && self.turns.launch.ready(now) {
                self.turns.launch.take(now);
                (launch.retry_at, launch.calling) = (None, Some(now));
                actions.push(Action::Launch { token: token.clone(), count: launch.count });
            }
        }
    }

    /// Starting twice is harmless.
    pub(super) fn retry_starts(&mut self, actions: &mut Vec<Action>) {
        if !self.turns.start.ready(self.now) {
            return;
        }
        let due = |start: &Start| start.due().is_some_and(|at| at <= self.now);
        let starting = self.instances.of(Role::Starting).map(|(_, key)| key);
        let starting = starting.filter(|key| self.instances.slot(*key).start.as_ref().is_some_and(due));
        let keys: Vec<Key> = starting.take(BATCH).collect();
        if keys.is_empty() {
            return;
        }
        self.turns.start.take(self.now);
        let ids = keys.iter().map(|key| self.instances.slot(*key).instance.id.clone()).collect();
        for key in keys {
            let now = self.now;
            self.instances.update(key, |slot| {
                if let Some(start) = &mut slot.start {
                    (start.retry_at, start.calling) = (None, Some(now));
                }
            });
        }
        actions.push(Action::Start { ids });
    }

    /// What a decision was made on, in words.
    pub(super) fn numbers(&self) -> String {
        let counts = self.instances.counts();
        format!(
            "demand {}, target {} by {}, cap {}; {} pending, {} running, {} asked for, {} stopping, {} stopped",
            self.demand.jobs(),
            self.target,
            self.rules.policy.name(),
            self.cap(),
            counts.pending,
            counts.running,
            self.launches.outstanding() + self.instances.count(Role::Starting),
            counts.stopping,
            counts.stopped,
        )
    }
}

//! Starting stopped instances.

use super::{
    action::Action,
    calls::{INSTANCES_PER_CALL, TokenBucket, backoff, may_have_been_applied},
    decision_log::{Change, DecisionLog},
    explain::{Inputs, Kind},
    instance::InstanceId,
    instances::{Instances, Key},
    situation::Situation,
    step::Step,
    timestamp::Timestamp,
    tracked::{Role, Startup},
};
use crate::{CloudError, CloudResult};

/// Starts instances. The state of each instance's start is its [`Startup`], which only this phase changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Starts {
    bucket: TokenBucket,
}

impl Starts {
    /// Records the answer to a start.
    pub fn answered(
        &mut self,
        now: Timestamp,
        results: Vec<(InstanceId, CloudResult<()>)>,
        instances: &mut Instances,
        log: &mut DecisionLog,
    ) {
        for (id, result) in results {
            let Some(key) = instances.key(&id) else { continue };
            if instances.get(key).startup.start.is_none() {
                continue;
            }
            if let Err(error) = &result {
                log.error(now, format!("start of {id} failed: {error}"));
            }
            instances.update_startup(key, |startup| Self::answer(now, startup, result));
        }
    }

    fn answer(now: Timestamp, startup: &mut Startup, result: CloudResult<()>) {
        let Some(start) = &mut startup.start else { return };
        start.called = None;
        match result {
            Ok(()) => start.accepted = Some(now),
            Err(error) if may_have_been_applied(&error) || error == CloudError::Throttled => {
                start.failures += 1;
                start.retry_at = Some(now + backoff(start.failures));
            }
            Err(_) => startup.fail(now),
        }
    }

    /// Gives up starts that were requested `fleet.boot_timeout` before the latest description, except those with a call
    /// under way.
    pub fn give_up(&mut self, situation: &Situation, instances: &mut Instances) {
        let (now, timeout) = (situation.now, situation.rules.boot_timeout);
        let overdue = |(requested, _): &(Timestamp, Key)| *requested + timeout <= situation.described_as_of;
        let called = |key: &Key| instances.get(*key).startup.start.is_some_and(|start| start.called.is_some());
        let overdue = instances.of(Role::Starting).take_while(overdue).map(|(_, key)| key);
        let keys: Vec<Key> = overdue.filter(|key| !called(key)).collect();
        for key in keys {
            instances.update_startup(key, |startup| startup.fail(now));
        }
    }

    /// Retries starts whose answers were lost, and starts up to `wanted` instances. Also returns how many of these must
    /// be launched, because too few are stopped.
    pub fn decide(
        &mut self,
        situation: &Situation,
        wanted: usize,
        instances: &mut Instances,
        inputs: &Inputs,
        log: &mut DecisionLog,
    ) -> (Step, usize) {
        let now = situation.now;
        let mut step = Step::default();
        self.retry(now, instances, &mut step);
        // The most recently stopped first, because its host is the most likely to have the image cached.
        let startable = instances.of(Role::Startable).rev().map(|(_, key)| key);
        let startable = startable.filter(|key| instances.get(*key).startup.not_before <= now);
        let mut keys = Vec::with_capacity(INSTANCES_PER_CALL);
        let mut missing = wanted;
        for key in startable.take(wanted) {
            missing -= 1;
            if keys.len() < INSTANCES_PER_CALL {
                keys.push(key); // the rest follows with the next call
            }
        }
        if missing > 0 {
            let retries = instances.of(Role::Startable).map(|(_, key)| instances.get(key).startup.not_before);
            if let Some(at) = retries.filter(|at| *at > now).min() {
                step.wake(now, at);
            }
        }
        if !keys.is_empty() && self.bucket.ready(now) {
            step.actions.push(self.start(now, &keys, instances, inputs, log));
        }
        for (_, key) in instances.of(Role::Starting) {
            if let Some(due) = instances.get(key).startup.start.and_then(|start| start.due()) {
                step.wake(now, due.max(self.bucket.next()));
            }
        }
        if wanted > 0 {
            step.wake(now, self.bucket.next());
        }
        (step, missing)
    }

    fn start(
        &mut self,
        now: Timestamp,
        keys: &[Key],
        instances: &mut Instances,
        inputs: &Inputs,
        log: &mut DecisionLog,
    ) -> Action {
        self.bucket.take(now);
        let ids = instances.ids(keys);
        let reason = format!("start {}: {}", ids.len(), inputs.summary());
        let change = Change { kind: Kind::Start, instances: ids.clone(), count: ids.len(), reason, token: None };
        log.explain(now, change, inputs.clone());
        for key in keys {
            instances.update_startup(*key, |startup| startup.begin(now));
        }
        Action::Start { ids }
    }

    /// Repeats the starts that are due. Starting an instance twice is harmless.
    fn retry(&mut self, now: Timestamp, instances: &mut Instances, step: &mut Step) {
        if !self.bucket.ready(now) {
            return;
        }
        let due = |key: &Key| {
            let start = instances.get(*key).startup.start;
            start.and_then(|start| start.due()).is_some_and(|at| at <= now)
        };
        let keys: Vec<Key> =
            instances.of(Role::Starting).map(|(_, key)| key).filter(due).take(INSTANCES_PER_CALL).collect();
        if keys.is_empty() {
            return;
        }
        self.bucket.take(now);
        step.actions.push(Action::Start { ids: instances.ids(&keys) });
        for key in keys {
            instances.update_startup(key, |startup| {
                if let Some(start) = &mut startup.start {
                    (start.retry_at, start.called) = (None, Some(now));
                }
            });
        }
    }
}

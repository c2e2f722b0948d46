//! Terminating instances: stopped ones beyond those that are kept, broken ones, and those of an earlier version. No other
//! working instance is terminated.
//!
//! A termination is an uncertain operation until it has been observed. Until then the instance holds capacity and is
//! not started.

use std::{collections::BTreeMap, time::Duration};

use super::{
    action::{Action, Cause},
    calls::{CALL_TIMEOUT, INSTANCES_PER_CALL, TokenBucket, backoff, may_have_been_applied},
    decision_log::{Change, DecisionLog},
    demand::Demand,
    drift::Drift,
    explain::{Inputs, Kind},
    instance::InstanceId,
    instances::{Instances, Key},
    removal::Removal,
    rules::FleetRules,
    situation::Situation,
    step::Step,
    sweep::Sweep,
    timestamp::Timestamp,
    tracked::{Role, Termination},
    unhealthy,
};
use crate::{CloudError, CloudResult};

/// Number of failures from which the backoff after a refused termination is computed.
const REFUSED: u32 = 3;

/// Terminates instances. The state of each instance's termination is its [`Termination`], which this phase creates and
/// only an observation removes.
#[derive(Clone, Debug)]
pub(super) struct Terminations {
    sweep: Sweep,
    drift: Drift,
    /// Launched instances that were never observed, each with the time of the next call to terminate it in case it
    /// exists.
    orphaned: BTreeMap<InstanceId, Timestamp>,
    bucket: TokenBucket,
    /// No call before this time, because of the backoff after failures.
    not_before: Timestamp,
    /// Consecutive failed calls.
    failures: u32,
}

impl Terminations {
    pub fn new(rules: &FleetRules) -> Self {
        Self {
            sweep: Sweep::new(Timestamp::START + rules.sweep_every),
            drift: Drift::default(),
            orphaned: BTreeMap::new(),
            bucket: TokenBucket::default(),
            not_before: Timestamp::START,
            failures: 0,
        }
    }

    /// Returns the number of orphaned launches, which hold capacity until the cloud has confirmed that they are gone.
    pub fn orphaned(&self) -> usize {
        self.orphaned.len()
    }

    /// Returns the earliest time of the next launch, as far as the sweep is concerned.
    pub fn launches_not_before(&self) -> Timestamp {
        self.sweep.launches_not_before()
    }

    /// Takes over launched instances that were never observed.
    pub fn orphan(&mut self, now: Timestamp, ids: Vec<InstanceId>) {
        self.orphaned.extend(ids.into_iter().map(|id| (id, now)));
    }

    /// Records that an instance was observed, so that it is not orphaned.
    pub fn observe(&mut self, id: &InstanceId) {
        self.orphaned.remove(id);
    }

    /// Records the answer to a termination.
    pub fn answered(
        &mut self,
        now: Timestamp,
        results: Vec<(InstanceId, CloudResult<()>)>,
        instances: &mut Instances,
        log: &mut DecisionLog,
    ) {
        let mut failed = false;
        for (id, result) in results {
            let gone = matches!(result, Ok(()) | Err(CloudError::NotFound(_)));
            if gone {
                self.orphaned.remove(&id);
            }
            let Err(error) = result else { continue };
            log.error(now, format!("termination of {id} failed: {error}"));
            if gone {
                continue;
            }
            failed = true;
            if let Some(due) = self.orphaned.get_mut(&id) {
                *due = now + backoff(REFUSED);
            }
            if let Some(key) = instances.key(&id) {
                instances.update_termination(key, |termination| Self::fail(now, termination, &error));
            }
        }
        if failed {
            self.failures += 1;
            self.not_before = now + backoff(self.failures);
        } else {
            self.failures = 0;
        }
    }

    fn fail(now: Timestamp, termination: &mut Option<Termination>, error: &CloudError) {
        let Some(requested) = termination else { return };
        if may_have_been_applied(error) {
            // It may still be carried out, so the instance must not be started until then.
            requested.lost_answers += 1;
            requested.due = now + backoff(requested.lost_answers);
        } else if requested.lost_answers > 0 {
            requested.due = now + backoff(REFUSED);
        } else {
            *termination = None;
        }
    }

    /// Terminates unhealthy instances, those chosen by the sweep and those of an earlier version, with one call per reason, and retries terminations
    /// that are not observed in time. `launching` is the number of launched instances not observed yet.
    pub fn decide(
        &mut self,
        situation: &Situation,
        demand: &Demand,
        launching: usize,
        instances: &mut Instances,
        inputs: &Inputs,
        log: &mut DecisionLog,
    ) -> Step {
        let now = situation.now;
        let mut step = Step::default();
        if self.next_call() <= now {
            let due = now + Self::patience(situation.rules);
            for removal in unhealthy::removals(situation, demand, instances) {
                step.actions.extend(self.begin(now, due, removal, instances, inputs, log));
            }
            let serving = instances.serving() + launching;
            for removal in self.sweep.removals(situation, instances, serving) {
                step.actions.extend(self.begin(now, due, removal, instances, inputs, log));
            }
            if let Some(removal) = self.drift.removal(situation, instances, launching) {
                self.drift.began(now);
                step.actions.extend(self.begin(now, due, removal, instances, inputs, log));
            }
            step.actions.extend(self.retry(now, due, instances));
        }
        let requested = instances.of(Role::Terminating).next().map(|(due, _)| due);
        let hung = instances.of(Role::Unresponsive).next().map(|_| now); // the call was refused, or it is full
        let due = requested.into_iter().chain(hung).chain(self.orphaned.values().copied()).chain([self.sweep.next()]);
        // The call was refused, or it is full.
        let outdated = self.drift.removal(situation, instances, launching).map(|_| now);
        let due = due.chain(outdated).chain(self.drift.due(situation, instances));
        for at in due {
            step.wake(now, at.max(self.next_call()));
        }
        step
    }

    fn next_call(&self) -> Timestamp {
        self.bucket.next().max(self.not_before)
    }

    /// Returns how long a termination may take to be answered and shown. After that it counts as lost.
    fn patience(rules: &FleetRules) -> Duration {
        CALL_TIMEOUT + rules.describe_lag
    }

    /// Requests the termination of up to [`INSTANCES_PER_CALL`] instances.
    fn begin(
        &mut self,
        now: Timestamp,
        due: Timestamp,
        removal: Removal,
        instances: &mut Instances,
        inputs: &Inputs,
        log: &mut DecisionLog,
    ) -> Option<Action> {
        let Removal { mut keys, cause, why } = removal;
        keys.truncate(INSTANCES_PER_CALL);
        let ids = instances.ids(&keys);
        let reason = format!("terminate {}: {why}", ids.len());
        let change = Change { kind: Kind::Terminate, instances: ids.clone(), count: ids.len(), reason, token: None };
        log.explain(now, change, inputs.clone());
        let requested = Termination {
            due,
            lost_answers: 0,
            though_running: matches!(cause, Cause::Silent | Cause::Unresponsive | Cause::Outdated),
        };
        for key in keys {
            instances.update_termination(key, |termination| *termination = Some(requested));
        }
        self.bucket.take(now);
        Some(Action::Terminate { ids, cause })
    }

    /// Retries terminations that are due, and terminates orphaned launches: up to [`INSTANCES_PER_CALL`] instances.
    fn retry(&mut self, now: Timestamp, due_again: Timestamp, instances: &mut Instances) -> Option<Action> {
        let due = instances.of(Role::Terminating).take_while(|(due, _)| *due <= now);
        let keys: Vec<Key> = due.map(|(_, key)| key).take(INSTANCES_PER_CALL).collect();
        let mut ids = instances.ids(&keys);
        for key in keys {
            instances.update_termination(key, |termination| {
                if let Some(requested) = termination {
                    requested.due = due_again;
                }
            });
        }
        let room = INSTANCES_PER_CALL - ids.len(); // the rest follows with the next call
        for (id, due) in self.orphaned.iter_mut().filter(|(_, due)| **due <= now).take(room) {
            ids.push(id.clone());
            *due = due_again;
        }
        if ids.is_empty() {
            return None;
        }
        self.bucket.take(now);
        Some(Action::Terminate { ids, cause: Cause::Unobserved })
    }
}

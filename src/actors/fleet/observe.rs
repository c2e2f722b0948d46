//! Taking in what the cloud shows and answers.

use super::{
    Time,
    intents::{may_have_been_applied, pause},
    state::{FleetCore, Observed, QUOTA_MEMORY},
};
use crate::cloud::{CloudError, CloudResult, Instance, InstanceId, InstanceState};

/// An instance is gone when so many descriptions in a row did not show it: a list may lag.
const MISSED: u32 = 3;
/// A start has come to nothing when so many later descriptions still show the instance stopped.
const STILL_STOPPED: u32 = 3;

impl FleetCore {
    /// A description that was asked for at `asked`.
    pub(super) fn observe(&mut self, asked: Time, instances: Vec<Instance>) {
        let now = self.now;
        for observed in self.observed.values_mut() {
            observed.missed += 1;
        }
        for instance in instances {
            self.observe_one(asked, instance);
        }
        self.observed.retain(|_, o| o.missed < MISSED);
        // What cannot be seen any more needs no termination, and no start.
        let observed = &self.observed;
        self.intents.terminations.retain(|id, _| observed.get(id).is_some_and(|o| o.instance.state.counts()));
        self.intents.starts.retain(|id, _| observed.contains_key(id));
        self.intents.settle();
        self.described = true;
        if self.quota.is_some_and(|(_, until)| until <= now) {
            self.quota = None;
        }
    }

    fn observe_one(&mut self, asked: Time, instance: Instance) {
        let (id, state, now) = (instance.id.clone(), instance.state, self.now);
        if let Some(launch) = self.intents.launches.get_mut(&instance.token) {
            launch.seen.insert(id.clone());
            launch.unseen.remove(&id);
        }
        if let Some(start) = self.intents.starts.get_mut(&id) {
            match state {
                InstanceState::Pending
                | InstanceState::Running
                | InstanceState::Stopping
                | InstanceState::ShuttingDown
                | InstanceState::Terminated => {
                    self.intents.starts.remove(&id);
                }
                InstanceState::Stopped => {
                    if !start.calling && start.retry_at.is_none() && asked > start.asked {
                        start.still_stopped += 1;
                    }
                    if start.still_stopped >= STILL_STOPPED {
                        self.intents.starts.remove(&id);
                    }
                }
            }
        }
        let before = self.observed.get(&id).map(|o| (o.instance.state, o.since));
        let since = match before {
            Some((old, since)) if old == state => since,
            _ => now,
        };
        if before.map(|(old, _)| old) != Some(state) {
            let from = before.map_or_else(String::new, |(old, _)| format!("{old:?} → ").to_lowercase());
            let reason = instance.reason.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
            let text = format!("{} {from}{}{reason}", instance.name, format!("{state:?}").to_lowercase());
            self.story.tell(now, "state", text);
        }
        self.observed.insert(id, Observed { instance, since, missed: 0 });
    }

    pub(super) fn launched(&mut self, token: &str, result: CloudResult<Vec<InstanceId>>) {
        let now = self.now;
        let Some(launch) = self.intents.launches.get_mut(token) else { return };
        launch.calling = false;
        match result {
            Ok(ids) => {
                if ids.len() < launch.count {
                    let text = format!("{} of {} instances were launched", ids.len(), launch.count);
                    self.story.tell(now, "launch", text);
                    self.launch_after = self.launch_after.max(now + pause(self.launch_failures + 1));
                }
                launch.answered = true;
                launch.unseen = ids.into_iter().filter(|id| !launch.seen.contains(id)).collect();
                self.launch_failures = 0;
            }
            Err(error) => {
                self.launch_failures += 1;
                let wait = pause(self.launch_failures);
                self.launch_after = self.launch_after.max(now + wait);
                if may_have_been_applied(&error) || error == CloudError::Throttled {
                    launch.failures += 1;
                    launch.retry_at = Some(now + wait);
                } else {
                    self.intents.launches.remove(token);
                }
                if let CloudError::Quota(_) = error {
                    self.quota = Some((self.live(), now + QUOTA_MEMORY));
                }
                self.story.tell(now, "error", format!("launch failed: {error}; next try in {} s", wait.as_secs_f32()));
            }
        }
        self.intents.settle();
    }

    pub(super) fn started(&mut self, results: Vec<(InstanceId, CloudResult<()>)>) {
        for (id, result) in results {
            let now = self.now;
            let Some(start) = self.intents.starts.get_mut(&id) else { continue };
            start.calling = false;
            match result {
                Ok(()) => start.asked = now, // descriptions asked for from now on show it started
                Err(error) => {
                    self.story.tell(now, "error", format!("start of {id} failed: {error}"));
                    if error.retryable() {
                        start.failures += 1;
                        start.retry_at = Some(now + pause(start.failures));
                    } else {
                        self.intents.starts.remove(&id);
                    }
                }
            }
        }
    }

    pub(super) fn terminated(&mut self, results: Vec<(InstanceId, CloudResult<()>)>) {
        for (id, result) in results {
            if let Err(error) = result {
                self.story.tell(self.now, "error", format!("termination of {id} failed: {error}"));
                self.intents.terminations.remove(&id);
                self.terminate_after = self.now + pause(3);
            }
        }
    }
}

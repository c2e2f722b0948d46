//! Taking in what the cloud answers to calls that change something.

use super::{
    Time,
    calls::{may_have_been_applied, pause},
    instance::InstanceId,
    instances::Key,
    state::{FleetCore, QUOTA_MEMORY},
};
use crate::error::{CloudError, CloudResult};

impl FleetCore {
    pub(super) fn launched(&mut self, token: &str, result: CloudResult<Vec<InstanceId>>) {
        let now = self.now;
        match &result {
            Ok(ids) => self.memory.name(token, ids),
            Err(error) => self.event_log.record(now, "error", format!("launch failed: {error}")),
        }
        let Some(launch) = self.launches.0.get_mut(token) else { return };
        launch.calling = None;
        match result {
            Ok(ids) => {
                self.turns.launch_failures = 0;
                if ids.len() < launch.count {
                    self.event_log.record(
                        now,
                        "launch",
                        format!("{} of {} instances were launched", ids.len(), launch.count),
                    );
                    self.turns.launch_after = self.turns.launch_after.max(now + pause(1));
                }
                launch.answer(now, ids);
            }
            Err(error) => {
                self.turns.launch_failures += 1;
                let again = now + pause(self.turns.launch_failures);
                self.turns.launch_after = self.turns.launch_after.max(again);
                if may_have_been_applied(&error) {
                    launch.failures += 1;
                    (launch.doubt, launch.retry_at) = (Some(now), Some(again));
                } else if error == CloudError::Throttled {
                    launch.retry_at = Some(again);
                } else if launch.doubt.is_some() {
                    // Refused now, but an earlier call with this token may have been carried out.
                    launch.abandoned = true;
                } else {
                    self.launches.0.remove(token);
                }
                if let CloudError::Quota(_) = error {
                    // With nothing alive somebody else has used the quota up: then only time helps.
                    self.quota = Some((self.live().max(1), now + QUOTA_MEMORY));
                }
            }
        }
        self.launches.settle();
    }

    pub(super) fn started(&mut self, results: Vec<(InstanceId, CloudResult<()>)>) {
        let now = self.now;
        for (id, result) in results {
            let Some(key) = self.instances.key(&id) else { continue };
            let Some(mut start) = self.instances.slot(key).start else { continue };
            start.calling = None;
            match result {
                Ok(()) => start.answered = Some(now),
                Err(error) => {
                    self.event_log.record(now, "error", format!("start of {id} failed: {error}"));
                    if may_have_been_applied(&error) || error == CloudError::Throttled {
                        start.failures += 1;
                        start.retry_at = Some(now + pause(start.failures));
                    } else {
                        self.start_failed(key);
                        continue;
                    }
                }
            }
            self.instances.update(key, |slot| slot.start = Some(start));
        }
    }

    /// The start came to nothing: a later one may do better, and a new instance may be launched meanwhile.
    pub(super) fn start_failed(&mut self, key: Key) {
        let now = self.now;
        self.instances.update(key, |slot| {
            slot.start = None;
            slot.boot = None;
            slot.failed_starts += 1;
            slot.start_after = now + pause(slot.failed_starts);
            slot.doubt = now;
        });
    }

    pub(super) fn terminated(&mut self, results: Vec<(InstanceId, CloudResult<()>)>) {
        let mut failed = false;
        for (id, result) in results {
            let gone = matches!(result, Ok(()) | Err(CloudError::NotFound(_)));
            if gone {
                self.orphaned.remove(&id);
            }
            let Err(error) = result else { continue };
            failed |= !gone;
            self.event_log.record(self.now, "error", format!("termination of {id} failed: {error}"));
            let again = |failures: u32, now: Time| now + pause(failures);
            if let Some(due) = self.orphaned.get_mut(&id) {
                *due = again(3, self.now);
            }
            let Some(key) = self.instances.key(&id) else { continue };
            let now = self.now;
            self.instances.update(key, |slot| {
                if may_have_been_applied(&error) {
                    // It may still come: the instance must not be started in between.
                    if let Some(termination) = &mut slot.termination {
                        termination.failures += 1;
                        termination.due = again(termination.failures, now);
                    }
                } else if !gone {
                    let lost_before = slot.termination.is_some_and(|t| t.failures > 0);
                    match &mut slot.termination {
                        Some(termination) if lost_before => termination.due = again(3, now),
                        termination => *termination = None,
                    }
                }
            });
        }
        if failed {
            self.turns.terminate_failures += 1;
            self.turns.terminate_after = self.now + pause(self.turns.terminate_failures);
        } else {
            self.turns.terminate_failures = 0;
        }
    }
}

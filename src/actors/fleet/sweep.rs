//! Which instances are terminated: stopped ones beyond what is kept, and those that do not come up.

use super::{Time, state::FleetCore};
use crate::cloud::{InstanceId, InstanceState};

impl FleetCore {
    /// Stopped instances to terminate now, oldest first. Kept: `fleet.keep_stopped`, and those that demand needs.
    pub(super) fn sweepable(&self) -> Vec<InstanceId> {
        let mut stopped: Vec<(Time, InstanceId)> =
            self.startable().into_iter().map(|id| (self.observed[&id].since, id)).collect();
        stopped.sort();
        let needed = self.target().saturating_sub(self.serving());
        let keep = self.rules.keep_stopped.max(needed);
        let excess = stopped.len().saturating_sub(keep);
        stopped.into_iter().take(excess).map(|(_, id)| id).collect()
    }

    /// Instances that are pending for longer than `fleet.boot_timeout`.
    pub(super) fn overdue(&self) -> Vec<InstanceId> {
        self.in_state(InstanceState::Pending)
            .filter(|(id, o)| {
                o.since + self.rules.boot_timeout <= self.now && !self.intents.terminations.contains_key(*id)
            })
            .map(|(id, _)| id.clone())
            .collect()
    }
}

//! How boots end, and what follows from it.

use std::time::Duration;

use super::{FleetCore, booting};
use crate::{
    boot_outcome::BootOutcome,
    failed_boots::{Degraded, RememberedBoots},
    tracked::BootKind,
};

impl FleetCore {
    /// Returns how boots ended in the latest step.
    pub fn boot_outcomes(&self) -> &[BootOutcome] {
        &self.boot_outcomes
    }

    /// Records that an instance was seen running `took` after it was requested.
    pub(super) fn booted(&mut self, kind: BootKind, took: Duration) {
        self.estimators.booted(kind, took);
        self.boot_outcomes.push(match kind {
            BootKind::Cold => BootOutcome::Cold(took),
            BootKind::Warm => BootOutcome::Warm(took),
        });
    }

    /// Returns why few instances are launched and started, if so many boots in a row have failed that the fleet is
    /// degraded.
    pub fn degraded(&self) -> Option<Degraded> {
        self.failed_boots.degraded(|| booting(&self.instances, &self.launches))
    }

    /// Returns what the next controller must know of failed boots ([`Event::BootsRestored`](crate::Event::BootsRestored)); `None` if none
    /// has failed since the last one that succeeded.
    pub fn remembered_boots(&self) -> Option<RememberedBoots> {
        self.failed_boots.remembered(self.rules.started_at)
    }

    /// Takes over what an earlier controller has remembered of failed boots.
    pub(super) fn restore_boots(&mut self, boots: RememberedBoots) {
        let (clock, inputs) = (self.clock(), self.inputs());
        self.failed_boots.restore(self.now, clock, boots, &inputs, &mut self.decision_log);
    }
}

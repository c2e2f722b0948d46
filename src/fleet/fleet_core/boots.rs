//! How boots end.

use std::time::Duration;

use super::FleetCore;
use crate::{boot_outcome::BootOutcome, tracked::BootKind};

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
}

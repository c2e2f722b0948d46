//! The interface of a controller. The simulator calls the fleet's core only from here.

use std::time::Duration;

use super::Time;
use rollcall_fleet::{Action, Event, FleetCore, FleetRules, InstanceId, Step, Timestamp};

/// A controller's decision on an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// API calls to make now, in this order.
    pub actions: Vec<Action>,
    /// When the controller needs an [`Event::Tick`], if no event arrives earlier.
    pub wake_at: Option<Time>,
}

/// Steers a fleet: takes events, returns API calls.
pub trait Controller {
    /// Handles an event at `now`, which never decreases.
    fn step(&mut self, event: Event, now: Time) -> Decision;

    /// Returns how long an idle worker waits for a job before it stops, if the controller decides that.
    fn idle_limit(&self, _worker: &InstanceId) -> Option<Duration> {
        None
    }
}

impl Controller for FleetCore {
    fn step(&mut self, event: Event, now: Time) -> Decision {
        let Step { actions, wake_at } = Self::step(self, event, Timestamp::new(now));
        Decision { actions, wake_at: wake_at.map(Timestamp::since_start) }
    }

    fn idle_limit(&self, worker: &InstanceId) -> Option<Duration> {
        Self::idle_limit(self, worker)
    }
}

/// Creates a fleet's core whose time zero is `started_at` (since the Unix epoch).
pub fn fleet_core(rules: &FleetRules, started_at: Time) -> FleetCore {
    /// The lease epoch, which is part of launch tokens. A run has one controller.
    const EPOCH: u64 = 1;
    FleetCore::new(FleetRules { started_at, ..rules.clone() }, EPOCH)
}

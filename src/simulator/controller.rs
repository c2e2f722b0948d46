//! The interface of a controller. The simulator calls the fleet's core only from here.

use super::Time;
use crate::fleet::{Action, Event, FleetCore, FleetRules};

/// What a controller decides on an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// API calls to make now, in this order.
    pub actions: Vec<Action>,
    /// When the controller wants an [`Event::Tick`], if no event comes before.
    pub wake_at: Option<Time>,
}

/// Steers a fleet: takes events, returns API calls.
pub trait Controller {
    /// Handles an event at `now`, which never decreases.
    fn step(&mut self, event: Event, now: Time) -> Decision;
}

impl Controller for FleetCore {
    fn step(&mut self, event: Event, now: Time) -> Decision {
        let actions = Self::step(self, event, now);
        Decision { actions, wake_at: self.next_deadline() }
    }
}

/// Creates a fleet's core whose time zero is `started_at` (since the Unix epoch).
pub fn fleet_core(rules: &FleetRules, started_at: Time) -> FleetCore {
    /// The lease epoch, which is part of launch tokens. A run has one controller.
    const EPOCH: u64 = 1;
    FleetCore::new(FleetRules { started_at, ..rules.clone() }, EPOCH)
}

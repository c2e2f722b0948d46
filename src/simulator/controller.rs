//! What can steer a simulated fleet.

use super::{Time, cooldown_loop::CooldownLoop};
use crate::{
    fleet::{Event, FleetCore, IdleStop, Step, Timestamp},
    settings::Settings,
};

/// The core's interface; see `crate::fleet`.
pub trait Controller {
    fn step(&mut self, event: Event, now: Time) -> Step;
}

impl Controller for FleetCore {
    fn step(&mut self, event: Event, now: Time) -> Step {
        Self::step(self, event, Timestamp::new(now))
    }
}

/// Who steers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// The product's core, with the policy and thresholds of the settings.
    Fleet,
    /// A control loop as clusters have it: the yardstick.
    CooldownLoop,
}

impl Contender {
    /// Name of the yardstick on the command line.
    pub const COOLDOWN_LOOP: &str = "cooldown-loop";

    /// `started_at`: virtual time zero, since the Unix epoch.
    pub(super) fn controller(self, settings: &Settings, started_at: Time) -> Box<dyn Controller> {
        match self {
            Self::Fleet => Box::new(FleetCore::new(settings.fleet_rules(started_at), 1)),
            Self::CooldownLoop => Box::new(CooldownLoop::new(settings.fleet.max_instances)),
        }
    }

    /// How long a worker waits for work before it stops its instance; the loop's workers do not.
    pub(super) fn idle_limits(self, settings: &Settings) -> Option<IdleStop> {
        match self {
            Self::Fleet => Some(IdleStop { idle: settings.worker.idle_stop, paid: settings.fleet.billing_minimum }),
            Self::CooldownLoop => None,
        }
    }

    /// The policy's name.
    pub fn name(self, settings: &Settings) -> String {
        match self {
            Self::Fleet => settings.fleet.policy.name().to_owned(),
            Self::CooldownLoop => Self::COOLDOWN_LOOP.to_owned(),
        }
    }
}

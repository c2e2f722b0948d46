//! The controllers that can be simulated.

use super::{
    Time,
    controller::{Controller, fleet_core},
    cooldown_loop::CooldownLoop,
    parameters::Parameters,
};
use rollcall_fleet::{IdleStop, Policy, SURPLUS_IDLE};

/// Which controller steers the simulated fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerKind {
    /// The fleet's core, with the policy and the thresholds of the parameters.
    Fleet,
    /// A control loop like those of cluster autoscalers, as a baseline.
    CooldownLoop,
}

impl ControllerKind {
    /// The baseline's name on the command line.
    pub const COOLDOWN_LOOP: &str = "cooldown-loop";

    /// Creates the controller. `started_at` is the start of virtual time, since the Unix epoch.
    pub(super) fn controller(self, parameters: &Parameters, started_at: Time) -> Box<dyn Controller> {
        match self {
            Self::Fleet => Box::new(fleet_core(&parameters.rules, started_at)),
            Self::CooldownLoop => Box::new(CooldownLoop::new(parameters.rules.max_instances)),
        }
    }

    /// Returns the rule by which an idle worker stops its instance. The baseline's workers wait forever.
    pub(super) fn idle_stop(self, parameters: &Parameters) -> Option<IdleStop> {
        match self {
            // The controller may let it wait longer.
            Self::Fleet if parameters.rules.policy == Policy::Adaptive => {
                Some(IdleStop { idle: SURPLUS_IDLE, ..parameters.idle_stop })
            }
            Self::Fleet => Some(parameters.idle_stop),
            Self::CooldownLoop => None,
        }
    }

    /// Returns the name of the policy.
    pub fn name(self, parameters: &Parameters) -> &'static str {
        match self {
            Self::Fleet => parameters.rules.policy.name(),
            Self::CooldownLoop => Self::COOLDOWN_LOOP,
        }
    }
}

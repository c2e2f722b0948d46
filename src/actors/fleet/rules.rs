//! The thresholds that decisions follow.

use super::Time;
use crate::settings::{self, Policy};

/// `fleet.*` of the settings, as the core uses them.
#[derive(Clone, Debug)]
pub struct FleetRules {
    pub policy: Policy,
    pub max_instances: usize,
    pub launch_cooldown: Time,
    pub sweep_every: Time,
    pub keep_stopped: usize,
    pub sweep_cooldown: Time,
    pub boot_timeout: Time,
    pub poll_every: Time,
    pub describe_every: Time,
}

impl From<&settings::Fleet> for FleetRules {
    fn from(fleet: &settings::Fleet) -> Self {
        Self {
            policy: fleet.policy,
            max_instances: fleet.max_instances,
            launch_cooldown: fleet.launch_cooldown,
            sweep_every: fleet.sweep_every,
            keep_stopped: fleet.keep_stopped,
            sweep_cooldown: fleet.sweep_cooldown,
            boot_timeout: fleet.boot_timeout,
            poll_every: fleet.poll_every,
            describe_every: fleet.describe_every,
        }
    }
}

//! The thresholds that decisions follow.

use serde::{Deserialize, Serialize};

use super::Time;
use crate::settings::{Policy, Settings, Window};

/// `fleet.*` of the settings, as the core uses them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// How long the cloud may take to carry out and to show what it was asked for.
    pub describe_lag: Time,
    /// A running worker of which nothing is heard for so long, while jobs wait or long after it should have stopped itself,
    /// is dead. `None`: who works cannot be seen from here (the replies go to several web nodes), so nobody is taken for
    /// dead.
    pub silent_timeout: Option<Time>,
    /// `backlog`.
    pub jobs_per_instance: usize,
    pub up_delay: Time,
    pub down_delay: Time,
    /// `deadline`.
    pub target_latency: Time,
    pub boot_cold: Time,
    pub boot_warm: Time,
    pub service_time: Time,
    /// What a start pays at least.
    pub billing_minimum: Time,
    pub schedule: Vec<Window>,
    /// Worker threads of an instance.
    pub threads: usize,
    /// When an idle worker stops itself (`worker.idle_stop`).
    pub idle_stop: Time,
    /// The core's time zero, since the Unix epoch.
    pub started_at: Time,
}

impl FleetRules {
    /// The rules of a configuration, for a core whose time begins at `started_at` (since the Unix epoch).
    pub fn new(settings: &Settings, started_at: Time) -> Self {
        let fleet = &settings.fleet;
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
            describe_lag: fleet.describe_lag,
            silent_timeout: Some(fleet.silent_timeout),
            jobs_per_instance: fleet.jobs_per_instance,
            up_delay: fleet.up_delay,
            down_delay: fleet.down_delay,
            target_latency: fleet.target_latency,
            boot_cold: fleet.boot_cold,
            boot_warm: fleet.boot_warm,
            service_time: fleet.service_time,
            billing_minimum: fleet.billing_minimum,
            schedule: fleet.schedule.clone(),
            threads: settings.worker.threads,
            idle_stop: settings.worker.idle_stop,
            started_at,
        }
    }
}

//! The thresholds that decisions follow.

use serde::{Deserialize, Serialize};

use super::{
    Time,
    policy::{Policy, Window},
};

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

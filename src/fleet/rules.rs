//! The thresholds that decisions follow.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::Window;

/// How the number of wanted instances is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    #[serde(alias = "report")]
    OnePerJob,
    Backlog,
    Deadline,
}

impl Policy {
    /// The policies by name, as in the configuration; `report` is an alias that older configurations use.
    pub const ALL: [(&str, Self); 4] = [
        ("one-per-job", Self::OnePerJob),
        ("backlog", Self::Backlog),
        ("deadline", Self::Deadline),
        ("report", Self::OnePerJob),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OnePerJob => "one-per-job",
            Self::Backlog => "backlog",
            Self::Deadline => "deadline",
        }
    }
}

/// `fleet.*` of the settings, as the core uses them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetRules {
    pub policy: Policy,
    pub max_instances: usize,
    pub launch_cooldown: Duration,
    pub sweep_every: Duration,
    pub keep_stopped: usize,
    pub sweep_cooldown: Duration,
    pub boot_timeout: Duration,
    pub poll_every: Duration,
    pub describe_every: Duration,
    /// Longest time the cloud takes to carry out a call and to show its effect.
    pub describe_lag: Duration,
    /// A running worker without a sign of life for this long, while jobs wait or long after it should have stopped itself,
    /// is dead. `None`: signs of life do not reach this process (the replies go to several web nodes), so no worker counts
    /// as dead.
    pub silent_timeout: Option<Duration>,
    /// Of the policy `backlog`.
    pub jobs_per_instance: usize,
    pub up_delay: Duration,
    pub down_delay: Duration,
    /// Of the policy `deadline`.
    pub target_latency: Duration,
    pub boot_cold: Duration,
    pub boot_warm: Duration,
    pub service_time: Duration,
    /// What a start pays for at least.
    pub billing_minimum: Duration,
    pub schedule: Vec<Window>,
    /// Worker threads of an instance.
    pub threads: usize,
    /// When an idle worker stops itself (`worker.idle_stop`).
    pub idle_stop: Duration,
    /// The controller's start, as time since the Unix epoch.
    pub started_at: Duration,
}

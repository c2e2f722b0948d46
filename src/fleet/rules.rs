//! The thresholds of decisions.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schedule::Window;

/// How the number of wanted instances is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// One instance per job.
    #[serde(alias = "report")]
    OnePerJob,
    /// A number of jobs per instance, with a delay in each direction.
    Backlog,
    /// The smallest number of instances that finish the backlog in time.
    Deadline,
    /// Thresholds learned from the fleet's own traffic.
    Adaptive,
}

impl Policy {
    /// The policies by name, as in the configuration; `report` is an alias for older configurations.
    pub const ALL: [(&str, Self); 5] = [
        ("one-per-job", Self::OnePerJob),
        ("backlog", Self::Backlog),
        ("deadline", Self::Deadline),
        ("adaptive", Self::Adaptive),
        ("report", Self::OnePerJob),
    ];

    /// Returns the policy's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OnePerJob => "one-per-job",
            Self::Backlog => "backlog",
            Self::Deadline => "deadline",
            Self::Adaptive => "adaptive",
        }
    }
}

/// `fleet.*` of the settings, as the core uses them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetRules {
    /// `fleet.policy`.
    pub policy: Policy,
    /// `fleet.max_instances`.
    pub max_instances: usize,
    /// `fleet.launch_cooldown`.
    pub launch_cooldown: Duration,
    /// `fleet.sweep_every`.
    pub sweep_every: Duration,
    /// `fleet.keep_stopped`.
    pub keep_stopped: usize,
    /// `fleet.sweep_cooldown`.
    pub sweep_cooldown: Duration,
    /// `fleet.boot_timeout`.
    pub boot_timeout: Duration,
    /// `fleet.poll_every`.
    pub poll_every: Duration,
    /// `fleet.describe_every`.
    pub describe_every: Duration,
    /// Longest time that the cloud takes to carry out a call and to show its effect.
    pub describe_lag: Duration,
    /// A running worker that finishes no job for this long, while jobs wait or long after it should have stopped
    /// itself, is dead. `None` if this process does not see all replies, because there are several web nodes; then no
    /// worker counts as dead.
    pub silent_timeout: Option<Duration>,
    /// `backlog`: `fleet.jobs_per_instance`.
    pub jobs_per_instance: usize,
    /// `backlog`: `fleet.up_delay`.
    pub up_delay: Duration,
    /// `backlog`: `fleet.down_delay`.
    pub down_delay: Duration,
    /// `deadline`: `fleet.target_latency`.
    pub target_latency: Duration,
    /// `deadline`: `fleet.boot_cold`.
    pub boot_cold: Duration,
    /// `deadline`: `fleet.boot_warm`.
    pub boot_warm: Duration,
    /// `deadline`: `fleet.service_time`.
    pub service_time: Duration,
    /// Minimum time billed per start.
    pub billing_minimum: Duration,
    /// `fleet.schedule`.
    pub schedule: Vec<Window>,
    /// Worker threads of an instance.
    pub threads: usize,
    /// When an idle worker stops itself (`worker.idle_stop`).
    pub idle_stop: Duration,
    /// `adaptive`: `fleet.wait_price`, what an hour of a job's waiting is worth.
    #[serde(default)]
    pub wait_price: f64,
    /// `adaptive`: `fleet.target_wait`, the time that at most one job in a hundred may wait for longer.
    #[serde(default)]
    pub target_wait: Option<Duration>,
    /// `adaptive`: the price of an hour of a running instance.
    #[serde(default)]
    pub instance_hour: f64,
    /// `adaptive`: the price of an hour of an instance's disk.
    #[serde(default)]
    pub disk_hour: f64,
    /// The controller's start, as time since the Unix epoch.
    pub started_at: Duration,
}

//! `[fleet]`: what the controller goes by.

use std::{path::PathBuf, time::Duration};

use super::{
    auto::Auto,
    layers::{Layers, SettingsError},
    local::Local,
    units::{HOUR, SECOND},
};
use crate::fleet::{
    FleetRules,
    policy::{Policy, Window},
};

/// `[fleet]`.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How many instances are wanted.
    pub policy: Policy,
    /// Most instances, stopped ones included.
    pub max_instances: usize,
    /// Beginning of the names of instances.
    pub name_prefix: String,
    /// Shortest time between two launches.
    pub launch_cooldown: Duration,
    /// How often stopped instances are terminated.
    pub sweep_every: Duration,
    /// Stopped instances that the sweep leaves.
    pub keep_stopped: usize,
    /// No launch for so long after a sweep that terminated some.
    pub sweep_cooldown: Duration,
    /// An instance that is not ready in this time is terminated.
    pub boot_timeout: Duration,
    /// How often the queue's depth is read.
    pub poll_every: Duration,
    /// How often instances are described.
    pub describe_every: Duration,
    /// How long a dead controller's lease holds.
    pub lease: Duration,
    /// How long the cloud may take to show what it was asked for.
    pub describe_lag: Duration,
    /// A worker that is not heard of for so long is taken for dead.
    pub silent_timeout: Duration,
    /// `backlog`: jobs per instance.
    pub jobs_per_instance: usize,
    /// `backlog`: how long demand must last before the fleet grows.
    pub up_delay: Duration,
    /// `backlog`: how long demand must be gone before the fleet shrinks.
    pub down_delay: Duration,
    /// `deadline`: time in which the backlog is finished.
    pub target_latency: Duration,
    /// `deadline`: boot of a new instance, until some have been seen.
    pub boot_cold: Duration,
    /// `deadline`: boot of a stopped instance, until some have been seen.
    pub boot_warm: Duration,
    /// `deadline`: time of one job on one thread, until some have been seen.
    pub service_time: Duration,
    /// What each start is billed at least.
    pub billing_minimum: Duration,
    /// Minimum instances by time of day.
    pub schedule: Vec<Window>,
    /// Where the event log is kept, if it is.
    pub record: Option<PathBuf>,
}

impl Fleet {
    pub(super) fn from_layers(l: &Layers, auto: Auto, local: &Local) -> Result<Self, SettingsError> {
        let ms = Duration::from_millis;
        let policy = l.choice("fleet.policy", &Policy::ALL)?;
        let max_instances =
            l.count_or_auto("fleet.max_instances", 1, 10_000, if auto.local { auto.cores } else { 19 })?;
        let fleet = Self {
            policy,
            max_instances,
            name_prefix: l.name("fleet.name_prefix", 64)?,
            launch_cooldown: l.duration("fleet.launch_cooldown", Duration::ZERO, HOUR)?,
            sweep_every: l.duration("fleet.sweep_every", SECOND, 24 * HOUR)?,
            keep_stopped: l.count_or_auto(
                "fleet.keep_stopped",
                0,
                10_000,
                if auto.local || first_design(policy) { 0 } else { max_instances.min(5) },
            )?,
            sweep_cooldown: l.duration("fleet.sweep_cooldown", Duration::ZERO, HOUR)?,
            boot_timeout: l.duration("fleet.boot_timeout", 5 * SECOND, HOUR)?,
            poll_every: l.duration_or_auto(
                "fleet.poll_every",
                ms(100),
                300 * SECOND,
                auto.pick(ms(500), 5 * SECOND),
            )?,
            describe_every: l.duration_or_auto(
                "fleet.describe_every",
                ms(100),
                300 * SECOND,
                auto.pick(SECOND, 15 * SECOND),
            )?,
            lease: l.duration("fleet.lease", 3 * SECOND, 600 * SECOND)?,
            describe_lag: l.duration_or_auto(
                "fleet.describe_lag",
                Duration::ZERO,
                300 * SECOND,
                auto.pick(Duration::ZERO, 15 * SECOND),
            )?,
            silent_timeout: l.duration("fleet.silent_timeout", 10 * SECOND, 24 * HOUR)?,
            jobs_per_instance: l.count("fleet.jobs_per_instance", 1, 1_000_000)?,
            up_delay: l.duration("fleet.up_delay", Duration::ZERO, HOUR)?,
            down_delay: l.duration("fleet.down_delay", Duration::ZERO, 24 * HOUR)?,
            target_latency: l.duration("fleet.target_latency", ms(100), 24 * HOUR)?,
            boot_cold: l.duration_or_auto("fleet.boot_cold", ms(10), HOUR, auto.pick(SECOND, 25 * SECOND))?,
            boot_warm: l.duration_or_auto("fleet.boot_warm", ms(10), HOUR, auto.pick(SECOND, 15 * SECOND))?,
            service_time: l.duration("fleet.service_time", ms(1), HOUR)?,
            billing_minimum: l.duration_or_auto(
                "fleet.billing_minimum",
                Duration::ZERO,
                HOUR,
                auto.pick(Duration::ZERO, 60 * SECOND),
            )?,
            schedule: l.list("fleet.schedule")?,
            record: l
                .path_or_auto("fleet.record", auto.local.then(|| local.data_dir.join("fleet.jsonl")))?
                .filter(|path| !path.as_os_str().is_empty()),
        };
        if fleet.keep_stopped > fleet.max_instances {
            return Err(l.invalid("fleet.keep_stopped", "at most fleet.max_instances"));
        }
        Ok(fleet)
    }

    /// Returns the rules of the fleet, with what they take of the workers, for a core whose time begins at `started_at`
    /// (since the Unix epoch).
    pub(super) fn rules(&self, threads: usize, idle_stop: Duration, started_at: Duration) -> FleetRules {
        FleetRules {
            policy: self.policy,
            max_instances: self.max_instances,
            launch_cooldown: self.launch_cooldown,
            sweep_every: self.sweep_every,
            keep_stopped: self.keep_stopped,
            sweep_cooldown: self.sweep_cooldown,
            boot_timeout: self.boot_timeout,
            poll_every: self.poll_every,
            describe_every: self.describe_every,
            describe_lag: self.describe_lag,
            silent_timeout: Some(self.silent_timeout),
            jobs_per_instance: self.jobs_per_instance,
            up_delay: self.up_delay,
            down_delay: self.down_delay,
            target_latency: self.target_latency,
            boot_cold: self.boot_cold,
            boot_warm: self.boot_warm,
            service_time: self.service_time,
            billing_minimum: self.billing_minimum,
            schedule: self.schedule.clone(),
            threads,
            idle_stop,
            started_at,
        }
    }

    /// Returns whether "auto" means the thresholds of the design that the policy `one-per-job` comes from.
    pub(super) fn has_thresholds_of_first_design(&self) -> bool {
        first_design(self.policy)
    }
}

fn first_design(policy: Policy) -> bool {
    policy == Policy::OnePerJob
}

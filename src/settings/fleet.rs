//! `[fleet]`: the rules of the controller.

use std::{path::PathBuf, time::Duration};

use super::{
    auto::{Auto, Place},
    layers::SettingsError,
    local::Local,
    prices::Prices,
    reader::{HOUR, MILLISECOND, MINUTE, Reader, SECOND},
    worker::Worker,
};
use crate::fleet::{FleetRules, Policy, Window};

/// Settings of the fleet.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How the number of wanted instances is decided.
    pub policy: Policy,
    /// Maximum number of instances, including pending, stopping and stopped ones.
    pub max_instances: usize,
    /// Prefix of each instance's name.
    pub name_prefix: String,
    /// Shortest time between two launches.
    pub launch_cooldown: Duration,
    /// Time between two sweeps, which terminate stopped instances.
    pub sweep_every: Duration,
    /// Number of stopped instances that a sweep keeps; at most `max_instances`.
    pub keep_stopped: usize,
    /// Shortest time between a sweep that terminated instances and the next launch.
    pub sweep_cooldown: Duration,
    /// Time within which an instance must become ready.
    pub boot_timeout: Duration,
    /// Time between two readings of the queue's depth when nothing happens.
    pub poll_every: Duration,
    /// Time between two descriptions of the instances when nothing happens.
    pub describe_every: Duration,
    /// How long a controller's lease remains valid without a renewal.
    pub lease: Duration,
    /// Longest time that the cloud takes to carry out a request and to show its effect.
    pub describe_lag: Duration,
    /// Time without a finished job, while jobs are waiting, after which a running worker counts as dead.
    pub silent_timeout: Duration,
    /// `backlog`: jobs per instance.
    pub jobs_per_instance: usize,
    /// `backlog`: how long demand must be higher before the target rises.
    pub up_delay: Duration,
    /// `backlog`: how long demand must be lower before the target falls.
    pub down_delay: Duration,
    /// `deadline`: time within which the backlog should be finished.
    pub target_latency: Duration,
    /// `deadline`: time from the launch of an instance until it is ready, before any has been observed.
    pub boot_cold: Duration,
    /// `deadline`: time from the start of a stopped instance until it is ready, before any has been observed.
    pub boot_warm: Duration,
    /// `deadline`: time of one job on one thread, before any has been observed.
    pub service_time: Duration,
    /// `adaptive`: what an hour of a job's waiting is worth.
    pub wait_price: f64,
    /// `adaptive`: the time that at most one job in a hundred may wait for longer. Takes the place of `wait_price`.
    pub target_wait: Option<Duration>,
    /// Minimum time that the cloud bills per start.
    pub billing_minimum: Duration,
    /// Minimum number of instances by time of day.
    pub schedule: Vec<Window>,
    /// File of the event log, if one is kept.
    pub record: Option<PathBuf>,
    /// File of the history that the page draws, if it is kept over a restart.
    pub history: Option<PathBuf>,
}

impl Fleet {
    pub(super) fn read(r: &Reader<'_>, place: Place, local: &Local) -> Result<Self, SettingsError> {
        let poll_every = place.by_cloud(500 * MILLISECOND, 5 * SECOND);
        let describe_every = place.by_cloud(SECOND, 15 * SECOND);
        let describe_lag = place.by_cloud(Duration::ZERO, 15 * SECOND);
        let boot_cold = place.by_cloud(SECOND, 25 * SECOND);
        let boot_warm = place.by_cloud(SECOND, 15 * SECOND);
        let billing_minimum = place.by_cloud(Duration::ZERO, MINUTE);
        let record = place.by_cloud(Some(local.data_dir.join("fleet.jsonl")), None);
        let history = place.by_cloud(Some(local.data_dir.join("fleet-history.bin")), None);
        let max_instances = if place.local {
            Auto::new(place.machine.cores, "one per core on the embedded cloud")
        } else {
            Auto::new(19, "on AWS")
        };

        let policy = r.choice("fleet.policy", &Policy::ALL)?;
        let max_instances = r.count_or_auto("fleet.max_instances", 1..=10_000, max_instances)?;
        let keep_stopped = match policy {
            // The design that this policy comes from keeps no stopped instances.
            Policy::OnePerJob if !place.local => Auto::new(0, "with the policy one-per-job"),
            _ if place.local => Auto::new(0, "on the embedded cloud"),
            _ if max_instances < 5 => Auto::new(max_instances, "as many as fleet.max_instances"),
            _ => Auto::new(5, "on AWS"),
        };
        let keep_stopped = r.count_or_auto("fleet.keep_stopped", 0..=10_000, keep_stopped)?;
        if keep_stopped > max_instances {
            return Err(r.invalid("fleet.keep_stopped", "at most fleet.max_instances"));
        }

        Ok(Self {
            policy,
            max_instances,
            name_prefix: r.name("fleet.name_prefix", 64)?,
            launch_cooldown: r.duration("fleet.launch_cooldown", Duration::ZERO..=HOUR)?,
            sweep_every: r.duration("fleet.sweep_every", SECOND..=24 * HOUR)?,
            keep_stopped,
            sweep_cooldown: r.duration("fleet.sweep_cooldown", Duration::ZERO..=HOUR)?,
            boot_timeout: r.duration("fleet.boot_timeout", 5 * SECOND..=HOUR)?,
            poll_every: r.duration_or_auto("fleet.poll_every", 100 * MILLISECOND..=5 * MINUTE, poll_every)?,
            describe_every: r.duration_or_auto(
                "fleet.describe_every",
                100 * MILLISECOND..=5 * MINUTE,
                describe_every,
            )?,
            lease: r.duration("fleet.lease", 3 * SECOND..=10 * MINUTE)?,
            describe_lag: r.duration_or_auto("fleet.describe_lag", Duration::ZERO..=5 * MINUTE, describe_lag)?,
            silent_timeout: r.duration("fleet.silent_timeout", 10 * SECOND..=24 * HOUR)?,
            jobs_per_instance: r.count("fleet.jobs_per_instance", 1..=1_000_000)?,
            up_delay: r.duration("fleet.up_delay", Duration::ZERO..=HOUR)?,
            down_delay: r.duration("fleet.down_delay", Duration::ZERO..=24 * HOUR)?,
            target_latency: r.duration("fleet.target_latency", 100 * MILLISECOND..=24 * HOUR)?,
            boot_cold: r.duration_or_auto("fleet.boot_cold", 10 * MILLISECOND..=HOUR, boot_cold)?,
            boot_warm: r.duration_or_auto("fleet.boot_warm", 10 * MILLISECOND..=HOUR, boot_warm)?,
            service_time: r.duration("fleet.service_time", MILLISECOND..=HOUR)?,
            wait_price: r.number("fleet.wait_price", 0.0..=1e6)?,
            target_wait: Some(r.duration("fleet.target_wait", Duration::ZERO..=24 * HOUR)?)
                .filter(|wait| !wait.is_zero()),
            billing_minimum: r.duration_or_auto("fleet.billing_minimum", Duration::ZERO..=HOUR, billing_minimum)?,
            schedule: r.list("fleet.schedule")?,
            record: r.path_or_auto("fleet.record", record)?,
            history: r.path_or_auto("fleet.history", history)?,
        })
    }

    /// Returns the rules of the fleet's core, whose time begins at `started_at` (since the Unix epoch).
    pub(super) fn rules(&self, worker: &Worker, prices: &Prices, started_at: Duration) -> FleetRules {
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
            threads: worker.threads,
            idle_stop: worker.idle_stop,
            wait_price: self.wait_price,
            target_wait: self.target_wait,
            instance_hour: prices.instance_hour,
            disk_hour: prices.disk_hour(),
            started_at,
        }
    }
}

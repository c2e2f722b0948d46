//! What the simulator supposes of the cloud and of the work, and what things cost. `docs/simulator.md` says where the
//! defaults come from.

use std::time::Duration;

use super::{
    layers::{Layers, SettingsError},
    units::HOUR,
};

/// From the call that starts an instance to a worker that takes jobs: log-normal round a median, with a slow tail.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Median of a new instance.
    pub cold: Duration,
    /// Median of one that was stopped.
    pub warm: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Share of boots that are slow, and how many times slower they are.
    pub slow_share: f64,
    pub slow_factor: f64,
    /// Share of a boot that EC2 calls pending, which is not billed.
    pub pending_share: f64,
}

/// What goes wrong, as shares from 0 to 1.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Of launches and starts, for want of capacity; a launch may be filled in part.
    pub capacity: f64,
    /// Of launched or started instances, never to come up.
    pub boot: f64,
    /// Of changes to EC2 that were made, with their answer lost.
    pub lost_answers: f64,
    /// Of jobs, with the instance lost in the middle.
    pub crash: f64,
}

#[derive(Clone, Debug)]
pub struct Simulate {
    pub boot: Boot,
    /// From the call to stop to stopped.
    pub stopping: Duration,
    /// From the call to terminate to terminated.
    pub shutting_down: Duration,
    /// One call to EC2, there and back; half of it on each way.
    pub call_latency: Duration,
    /// Descriptions show the past: up to this long ago.
    pub describe_lag: Duration,
    /// Message counts show the past: up to this long ago.
    pub count_lag: Duration,
    /// One call to a queue, there and back.
    pub queue_latency: Duration,
    /// A free worker takes a waiting job after up to this long.
    pub poll_delay: Duration,
    /// Median time of a job on a worker's thread, and the standard deviation of its logarithm.
    pub service: Duration,
    pub service_sigma: f64,
    /// Zero: the worker starts with its instance. Else cron starts it, at the next multiple of this.
    pub cron: Duration,
    /// The worker's own start: libraries and model.
    pub worker_start: Duration,
    /// The web tier tells the controller of each upload, as it does when both are one process.
    pub hints: bool,
    /// Stopped instances at the beginning.
    pub warm: usize,
    pub faults: Faults,
}

/// In one currency.
#[derive(Clone, Debug)]
pub struct Prices {
    pub instance_hour: f64,
    /// 30 days.
    pub disk_gb_month: f64,
    /// GB of each instance's disk, paid until it is terminated.
    pub disk_gb: f64,
    pub queue_million_calls: f64,
}

impl Simulate {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        let ms = Duration::from_millis;
        let minute = Duration::from_secs(60);
        let share = |key: &str| l.amount(key, 0.0, 1.0);
        Ok(Self {
            boot: Boot {
                cold: l.duration("simulate.boot_cold", ms(1), HOUR)?,
                warm: l.duration("simulate.boot_warm", ms(1), HOUR)?,
                sigma: l.amount("simulate.boot_sigma", 0.0, 2.0)?,
                slow_share: share("simulate.boot_slow_share")?,
                slow_factor: l.amount("simulate.boot_slow_factor", 1.0, 100.0)?,
                pending_share: share("simulate.pending_share")?,
            },
            stopping: l.duration("simulate.stopping", ms(1), HOUR)?,
            shutting_down: l.duration("simulate.shutting_down", ms(1), HOUR)?,
            call_latency: l.duration("simulate.call_latency", ms(1), minute)?,
            describe_lag: l.duration("simulate.describe_lag", Duration::ZERO, 10 * minute)?,
            count_lag: l.duration("simulate.count_lag", Duration::ZERO, 10 * minute)?,
            queue_latency: l.duration("simulate.queue_latency", ms(1), minute)?,
            poll_delay: l.duration("simulate.poll_delay", Duration::ZERO, 10 * minute)?,
            service: l.duration("simulate.service", ms(1), HOUR)?,
            service_sigma: l.amount("simulate.service_sigma", 0.0, 2.0)?,
            cron: l.duration("simulate.cron", Duration::ZERO, HOUR)?,
            worker_start: l.duration("simulate.worker_start", Duration::ZERO, HOUR)?,
            hints: l.choice("simulate.hints", &[("yes", true), ("no", false)])?,
            warm: l.count("simulate.warm", 0, 10_000)?,
            faults: Faults {
                capacity: share("simulate.capacity_errors")?,
                boot: share("simulate.boot_failures")?,
                lost_answers: share("simulate.lost_answers")?,
                crash: share("simulate.crashes")?,
            },
        })
    }
}

impl Prices {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        let money = |key: &str| l.amount(key, 0.0, 1e6);
        Ok(Self {
            instance_hour: money("prices.instance_hour")?,
            disk_gb_month: money("prices.disk_gb_month")?,
            disk_gb: money("prices.disk_gb")?,
            queue_million_calls: money("prices.queue_million_calls")?,
        })
    }
}

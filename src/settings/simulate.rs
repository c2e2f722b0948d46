//! `[simulate]`: the simulator's assumptions about the cloud and the work. `docs/simulator.md` has the sources of the
//! defaults.

use std::time::Duration;

use super::{
    layers::SettingsError,
    reader::{HOUR, MILLISECOND, MINUTE, Reader},
};

/// Settings of the simulator.
#[derive(Clone, Debug)]
pub struct Simulate {
    /// How long a boot takes.
    pub boot: Boot,
    /// Time from the request to stop an instance until it is stopped.
    pub stopping: Duration,
    /// Time from the request to terminate an instance until it is terminated.
    pub shutting_down: Duration,
    /// Round trip of a call to EC2; each way takes half of it.
    pub call_latency: Duration,
    /// Maximum age of what a description of the instances shows.
    pub describe_lag: Duration,
    /// Maximum age of a queue's message counts.
    pub count_lag: Duration,
    /// Round trip of a call to a queue.
    pub queue_latency: Duration,
    /// Maximum time until a free worker takes a waiting job.
    pub poll_delay: Duration,
    /// Median time of a job on one thread of a worker.
    pub service: Duration,
    /// Standard deviation of the logarithm of a job's time.
    pub service_sigma: f64,
    /// Period with which cron starts workers; zero if a worker starts together with its instance.
    pub cron: Duration,
    /// Time in which a worker loads its libraries and its model.
    pub worker_start: Duration,
    /// Whether the web tier notifies the controller of each upload, as in a single process.
    pub hints: bool,
    /// Stopped instances at the beginning.
    pub warm: usize,
    /// Web nodes.
    pub web_nodes: usize,
    /// Calls of each kind that the region allows to the request queue per second; zero for any number.
    pub queue_quota: usize,
    /// How often something fails.
    pub faults: Faults,
}

/// How long a boot takes, from the call that starts an instance to a worker that takes jobs: log-normal around a
/// median, with a slow tail.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Median of a new instance.
    pub cold: Duration,
    /// Median of a stopped instance.
    pub warm: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Share of slow boots, 0 to 1.
    pub slow_share: f64,
    /// How many times longer a slow boot takes.
    pub slow_factor: f64,
    /// Share of a boot in which the instance is pending and not billed, 0 to 1.
    pub pending_share: f64,
}

/// How often something fails, as shares from 0 to 1.
#[derive(Clone, Debug)]
pub struct Faults {
    /// Launches and starts that find no capacity; a launch may be filled in part.
    pub capacity: f64,
    /// Launched or started instances that never become ready.
    pub boot: f64,
    /// Changes that EC2 applies, but whose answer is lost.
    pub lost_answers: f64,
    /// Jobs during which the instance is lost.
    pub crash: f64,
}

impl Simulate {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        let time = |key| r.duration(key, MILLISECOND..=HOUR);
        let delay = |key| r.duration(key, Duration::ZERO..=HOUR);
        let call = |key| r.duration(key, MILLISECOND..=MINUTE);
        let lag = |key| r.duration(key, Duration::ZERO..=10 * MINUTE);
        let share = |key| r.number(key, 0.0..=1.0);
        let sigma = |key| r.number(key, 0.0..=2.0);
        Ok(Self {
            boot: Boot {
                cold: time("simulate.boot_cold")?,
                warm: time("simulate.boot_warm")?,
                sigma: sigma("simulate.boot_sigma")?,
                slow_share: share("simulate.boot_slow_share")?,
                slow_factor: r.number("simulate.boot_slow_factor", 1.0..=100.0)?,
                pending_share: share("simulate.pending_share")?,
            },
            stopping: time("simulate.stopping")?,
            shutting_down: time("simulate.shutting_down")?,
            call_latency: call("simulate.call_latency")?,
            describe_lag: lag("simulate.describe_lag")?,
            count_lag: lag("simulate.count_lag")?,
            queue_latency: call("simulate.queue_latency")?,
            poll_delay: lag("simulate.poll_delay")?,
            service: time("simulate.service")?,
            service_sigma: sigma("simulate.service_sigma")?,
            cron: delay("simulate.cron")?,
            worker_start: delay("simulate.worker_start")?,
            hints: r.choice("simulate.hints", &[("yes", true), ("no", false)])?,
            warm: r.count("simulate.warm", 0..=10_000)?,
            web_nodes: r.count("simulate.web_nodes", 1..=1_000)?,
            queue_quota: r.count("simulate.queue_quota", 0..=1_000_000)?,
            faults: Faults {
                capacity: share("simulate.capacity_errors")?,
                boot: share("simulate.boot_failures")?,
                lost_answers: share("simulate.lost_answers")?,
                crash: share("simulate.crashes")?,
            },
        })
    }
}

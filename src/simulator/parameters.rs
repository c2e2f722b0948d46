//! The parameters of a run.

use std::time::Duration;

use rollcall_fleet::{FleetRules, IdleStop};

/// What a run depends on in addition to its trace and its seed.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// The cloud and the work.
    pub cloud: CloudModel,
    /// The prices.
    pub prices: Prices,
    /// The rules of the controller. The simulator sets `started_at` itself.
    pub rules: FleetRules,
    /// When an idle worker stops its instance.
    pub idle_stop: IdleStop,
}

/// The model of the cloud, of the workers and of the work.
#[derive(Clone, Debug)]
pub struct CloudModel {
    /// Boot times.
    pub boot: Boot,
    /// Service times of jobs.
    pub service: Service,
    /// Faults.
    pub faults: Faults,
    /// Median time from the call that stops an instance to `stopped`.
    pub stopping: Duration,
    /// Median time from the call that terminates an instance to `terminated`.
    pub shutting_down: Duration,
    /// Median round-trip time of an EC2 call; half of it is spent in each direction.
    pub call_latency: Duration,
    /// Maximum age of what a description shows.
    pub describe_lag: Duration,
    /// Maximum age of the message counts.
    pub count_lag: Duration,
    /// Round-trip time of a queue call.
    pub queue_latency: Duration,
    /// Maximum time until a free worker receives a waiting job.
    pub poll_delay: Duration,
    /// Interval of the cron job that starts the worker. Zero: the worker starts as soon as the operating system is up.
    pub cron: Duration,
    /// Median time that the worker needs to load its libraries and its model.
    pub worker_start: Duration,
    /// Whether the controller receives a hint for each upload and whenever the number of waiting uploads has halved, as
    /// it does when it shares a process with the web tier.
    pub hints: bool,
    /// Number of stopped instances at the start of the run.
    pub warm: usize,
    /// Worker threads per instance.
    pub threads: usize,
    /// Visibility timeout of the queue: when the job of a crashed instance becomes visible again.
    pub visibility: Duration,
    /// Calls of each kind that the region allows to the request queue per second; `None` for any number.
    pub queue_quota: Option<f64>,
    /// Web nodes, among which uploads are spread evenly.
    pub web_nodes: usize,
    /// Batching window of the calls to the queues.
    pub linger: Duration,
    /// Instance names are this prefix followed by a number.
    pub name_prefix: String,
}

/// The time from the call that starts an instance until its operating system is up: log-normal, with a slow tail.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Median for a new instance.
    pub cold: Duration,
    /// Median for a stopped instance.
    pub warm: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Share of slow boots, from 0 to 1.
    pub slow_share: f64,
    /// Factor by which a slow boot takes longer.
    pub slow_factor: f64,
    /// Share of the boot in which the instance is `pending`, which is not billed.
    pub pending_share: f64,
}

/// The time of a job on a worker thread: log-normal.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Median time of a job on a thread.
    pub median: Duration,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

/// Probabilities of faults, from 0 to 1.
#[derive(Clone, Debug)]
pub struct Faults {
    /// A launch or a start finds no capacity; a launch may then create only some of the instances.
    pub capacity: f64,
    /// A launched or started instance never leaves `pending`.
    pub boot: f64,
    /// EC2 applies a change, and its answer is lost.
    pub lost_answers: f64,
    /// An instance crashes while it works on a job.
    pub crash: f64,
}

/// Prices in one currency.
#[derive(Clone, Debug)]
pub struct Prices {
    /// Per hour of a running instance.
    pub instance_hour: f64,
    /// Per GB and month of 30 days.
    pub disk_gb_month: f64,
    /// Size of each instance's disk, in GB. A disk is billed until its instance is terminated.
    pub disk_gb: f64,
    /// Per million calls to a queue.
    pub queue_million_calls: f64,
}

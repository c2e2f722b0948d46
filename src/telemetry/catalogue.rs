//! Every metric: its name, type, unit, labels and meaning. `docs/metrics.md` is made from this table.

use metrics::{SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// The type of a metric, as Prometheus has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// The values that a label can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These.
    Fixed(&'static [&'static str]),
    /// Others, of which there are few.
    Described(&'static str),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, by the conventions of Prometheus.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The unit of its values; `None` if they are not counted in one that has a name.
    pub unit: Option<Unit>,
    /// What it means: one sentence.
    pub help: &'static str,
    /// Its labels, with their values.
    pub labels: &'static [(&'static str, Values)],
}

/// Upper bounds for requests and jobs, seconds: from a health check to an upload that waits for an instance to boot.
const LATENCY: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Upper bounds for boots, seconds: from a process of this machine to the default of `fleet.boot_timeout`.
const BOOTS: &[f64] = &[0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0];

/// How a call can end: well, or by the kinds of [`CloudError`](crate::cloud::CloudError).
const OUTCOMES: Values = Values::Fixed(&[
    "ok",
    "not-found",
    "conflict",
    "invalid",
    "denied",
    "throttled",
    "no-capacity",
    "quota",
    "unavailable",
]);
const METHODS: Values = Values::Fixed(&["GET", "HEAD", "POST", "PUT", "DELETE", "other"]);
const ROUTES: Values = Values::Described("the route, such as `/v1/recognitions/{id}`, or `unknown`");
const GALLERIES: Values = Values::Described("the first 20 galleries by name, of which the default one is the first");

const fn counter(name: &'static str, help: &'static str, labels: &'static [(&'static str, Values)]) -> Metric {
    Metric { name, kind: Kind::Counter, unit: None, help, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [(&'static str, Values)]) -> Metric {
    Metric { name, kind: Kind::Gauge, unit: None, help, labels }
}

const fn seconds(
    name: &'static str,
    buckets: &'static [f64],
    help: &'static str,
    labels: &'static [(&'static str, Values)],
) -> Metric {
    Metric { name, kind: Kind::Histogram(buckets), unit: Some(Unit::Seconds), help, labels }
}

const fn of(unit: Unit, metric: Metric) -> Metric {
    Metric { unit: Some(unit), ..metric }
}

/// Every metric, by subject.
#[rustfmt::skip]
pub const CATALOGUE: &[Metric] = &[
    counter("rollcall_http_requests_total", "Requests handled, by route, method and status.",
        &[("route", ROUTES), ("method", METHODS), ("status", Values::Described("the HTTP status"))]),
    seconds("rollcall_http_request_duration_seconds", LATENCY,
        "Time from a request's head to the response's head, by route and method.",
        &[("route", ROUTES), ("method", METHODS)]),
    of(Unit::Bytes, counter("rollcall_http_upload_bytes_total", "Bytes of request bodies received.", &[])),
    gauge("rollcall_uploads_waiting", "Uploads that hold one of the http.max_waiting places of this node.", &[]),

    counter("rollcall_jobs_total", "Replies to this node's jobs, by outcome. A job that is done twice has two.",
        &[("outcome", Values::Fixed(&["done", "unsupported", "damaged", "too-large", "internal", "given-up"]))]),
    seconds("rollcall_job_duration_seconds", LATENCY,
        "Time from a job's submission to its reply, as measured by its worker.", &[]),
    seconds("rollcall_job_stage_duration_seconds", LATENCY,
        "Time of one stage of a job, as measured by its worker; queue is the time from submission to the latest receive, and \
         store is not a part of the time to the reply.",
        &[("stage", Values::Fixed(&["queue", "decode", "detect", "embed", "store"]))]),
    seconds("rollcall_job_worker_duration_seconds", LATENCY,
        "Time from a worker's receive of a job to its reply.", &[]),
    counter("rollcall_job_redeliveries_total", "Jobs that a worker received after others had received them.", &[]),
    counter("rollcall_dead_letters_total", "Jobs that have become dead letters, as stored by this node.", &[]),
    of(Unit::Seconds, gauge("rollcall_oldest_job_age_seconds",
        "Age of the oldest job that is not done, waiting or in flight; 0 if there is none. On one machine only, and jobs of an \
         earlier process count from the restart.", &[])),
    gauge("rollcall_queue_jobs", "Jobs in the request queue as last read, by state.",
        &[("state", Values::Fixed(&["visible", "in-flight", "delayed"]))]),
    gauge("rollcall_demand_jobs",
        "Jobs known to exist: those in the queue, or the uploads that wait at the controller's node if they are more.", &[]),

    gauge("rollcall_instances", "Instances, by state.",
        &[("state", Values::Fixed(&["pending", "running", "stopping", "stopped", "shutting-down", "terminated"]))]),
    gauge("rollcall_target_instances", "Instances wanted.", &[]),
    gauge("rollcall_fleet_degraded", "1 while boots fail one after another or the cloud refuses every instance, otherwise 0.",
        &[]),
    gauge("rollcall_failed_boots", "Boots in a row that have failed, while the fleet is degraded.", &[]),
    gauge("rollcall_refused_requests", "Requests for instances in a row that were refused, while the fleet is degraded.", &[]),
    counter("rollcall_fleet_decisions_total", "Decisions and changes of the fleet that this node's controller has logged, by kind.",
        &[("kind", Values::Fixed(&["launch", "start", "stop", "terminate", "lost", "degraded", "recovered"]))]),
    counter("rollcall_instance_requests_total",
        "Instances that the controller has asked the cloud to launch, start or terminate, by the cloud's answer.",
        &[("call", Values::Fixed(&["launch", "start", "terminate"])), ("outcome", OUTCOMES)]),
    counter("rollcall_instance_terminations_total", "Instances whose termination was requested, by cause; again repeats a request.",
        &[("cause", Values::Fixed(&[
            "sweep", "boot-timeout", "stop-timeout", "silent", "unresponsive", "outdated", "again",
        ]))]),
    seconds("rollcall_instance_boot_duration_seconds", BOOTS,
        "Time from the request of an instance until it was seen running: cold if it was launched, warm if it was started again.",
        &[("kind", Values::Fixed(&["cold", "warm"]))]),
    counter("rollcall_instance_boot_failures_total", "Boots that ended, or took too long, before a worker was ready.", &[]),
    counter("rollcall_cloud_calls_total",
        "Calls of this node and of workers to the cloud's ports, by port, call and outcome. On one machine the cloud is \
         embedded. A call on a batch ends like the first of its entries that failed; calls that share a request to SQS count \
         each.",
        &[
            ("port", Values::Fixed(&["queue", "objects", "compute"])),
            ("call", Values::Fixed(&[
                "create", "open", "send", "flush", "receive", "delete", "extend", "depth", "put", "get", "list", "check",
                "launch", "start", "terminate", "describe",
            ])),
            ("outcome", OUTCOMES),
        ]),
    gauge("rollcall_worker_cost_dollars_per_hour",
        "Cost of the workers and their disks as they are now, by prices.* of this node's settings.", &[]),
    gauge("rollcall_worker_cost_dollars",
        "Cost of the workers and their disks since this node started. Every node has that of the whole cluster.", &[]),

    gauge("rollcall_gallery_version", "Version of a gallery, which increases with each change.", &[("gallery", GALLERIES)]),
    gauge("rollcall_gallery_people", "People in a gallery.", &[("gallery", GALLERIES)]),
    gauge("rollcall_gallery_photos", "Photos of people in a gallery.", &[("gallery", GALLERIES)]),

    of(Unit::Bytes, gauge("rollcall_disk_bytes", "Size of the data folder on the disk, by kind; on one machine only.",
        &[("kind", Values::Fixed(&["queue", "objects", "indexes", "logs", "other"]))])),
    of(Unit::Bytes, gauge("rollcall_disk_free_bytes", "Free space of the data folder's disk; on one machine only.", &[])),
    counter("rollcall_audit_dropped_total", "Entries of the audit log that could not be written.", &[]),
    gauge("rollcall_build_info", "Always 1, with the version of this node's program.",
        &[("version", Values::Described("the version"))]),
];

impl Metric {
    /// Returns the metric of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        CATALOGUE.iter().find(|metric| metric.name == name)
    }

    /// Returns whether it can have these labels.
    pub fn allows(&self, labels: &[(String, String)]) -> bool {
        let fits = |(name, value): &(String, String)| {
            let known = self.labels.iter().find(|(label, _)| label == name);
            known.is_some_and(|(_, values)| match values {
                Values::Fixed(values) => values.contains(&value.as_str()),
                Values::Described(_) => false,
            })
        };
        labels.len() == self.labels.len() && labels.iter().all(fits)
    }

    fn describe(&self) {
        let help = SharedString::const_str(self.help);
        match (self.kind, self.unit) {
            (Kind::Counter, Some(unit)) => describe_counter!(self.name, unit, help),
            (Kind::Counter, None) => describe_counter!(self.name, help),
            (Kind::Gauge, Some(unit)) => describe_gauge!(self.name, unit, help),
            (Kind::Gauge, None) => describe_gauge!(self.name, help),
            (Kind::Histogram(_), Some(unit)) => describe_histogram!(self.name, unit, help),
            (Kind::Histogram(_), None) => describe_histogram!(self.name, help),
        }
    }

    /// Makes a counter begin with zero, so that its first increase is seen as one. Combinations of several labels, most
    /// of which never occur, begin when they occur.
    fn begin(&self) {
        match (self.kind, self.labels) {
            (Kind::Counter, []) => counter!(self.name).increment(0),
            (Kind::Counter, [(label, Values::Fixed(values))]) => {
                for &value in *values {
                    counter!(self.name, *label => value).increment(0);
                }
            }
            _ => {}
        }
    }
}

/// Returns the builder of a recorder with the buckets of every histogram.
///
/// # Errors
/// A histogram has no buckets.
pub fn recorder() -> Result<PrometheusBuilder, BuildError> {
    CATALOGUE.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(buckets) => builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets),
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

/// Installs the recorder of a process that serves `/metrics`. What was measured before is lost.
///
/// # Errors
/// A recorder is already installed.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = recorder()?.install_recorder()?;
    CATALOGUE.iter().for_each(Metric::describe);
    CATALOGUE.iter().for_each(Metric::begin);
    metrics::gauge!("rollcall_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

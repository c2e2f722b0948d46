//! Settings of the workers (`[worker]`).

use std::time::Duration;

use super::{
    auto::{Auto, Place},
    layers::SettingsError,
    reader::{HOUR, MINUTE, Reader, SECOND},
};
use crate::fleet::Policy;

/// Settings of the workers.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Time without a job after which a worker stops its instance.
    pub idle_stop: Duration,
    /// Number of inference threads.
    pub threads: usize,
    /// Whether "auto" chose the number for this machine. Others may have another.
    pub threads_are_auto: bool,
    /// Longest time that a worker that is shutting down may take to finish its jobs.
    pub drain_timeout: Duration,
}

impl Worker {
    pub(super) fn read(r: &Reader<'_>, place: Place, policy: Policy) -> Result<Self, SettingsError> {
        let idle_stop = match policy {
            // The design that this policy comes from stops its workers after 5 min.
            Policy::OnePerJob if !place.local => Auto::new(5 * MINUTE, "with the policy one-per-job"),
            _ => place.by_cloud(30 * SECOND, 90 * SECOND),
        };
        let threads = if place.local {
            Auto::new(1, "one instance per core")
        } else {
            Auto::new(place.machine.cores, "one per core")
        };
        Ok(Self {
            idle_stop: r.duration_or_auto("worker.idle_stop", SECOND..=24 * HOUR, idle_stop)?,
            threads: r.count_or_auto("worker.threads", 1..=256, threads)?,
            threads_are_auto: r.is_auto("worker.threads"),
            drain_timeout: r.duration("worker.drain_timeout", SECOND..=HOUR)?,
        })
    }
}

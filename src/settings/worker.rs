//! `[worker]`: what an instance does.

use std::time::Duration;

use super::{
    auto::Auto,
    fleet::Fleet,
    layers::{Layers, SettingsError},
    units::{HOUR, SECOND},
};

/// `[worker]`.
#[derive(Clone, Debug)]
pub struct Worker {
    /// An idle worker stops its instance after this time.
    pub idle_stop: Duration,
    /// Threads that do jobs.
    pub threads: usize,
    /// Longest time to finish jobs in hand at the end.
    pub drain_timeout: Duration,
}

impl Worker {
    pub(super) fn from_layers(l: &Layers, auto: Auto, fleet: &Fleet) -> Result<Self, SettingsError> {
        let far = if fleet.has_thresholds_of_first_design() { 300 * SECOND } else { 90 * SECOND };
        let idle_stop = auto.pick(30 * SECOND, far);
        Ok(Self {
            idle_stop: l.duration_or_auto("worker.idle_stop", SECOND, 24 * HOUR, idle_stop)?,
            threads: l.count_or_auto("worker.threads", 1, 256, if auto.local { 1 } else { auto.cores })?,
            drain_timeout: l.duration("worker.drain_timeout", SECOND, HOUR)?,
        })
    }
}

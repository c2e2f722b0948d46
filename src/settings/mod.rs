//! The settings: one file per section, with its type, its checks and the meaning of "auto".
//!
//! `config/default.toml` has the defaults and the documentation of every key. [`Layers`] merges it with a file and the
//! environment and keeps the origin of each value; the sections read their values from there.

mod audit;
mod auto;
mod aws;
mod cloud;
mod fleet;
mod gallery;
mod http;
mod layers;
mod local;
mod log;
mod machine;
mod prices;
mod queue;
mod reader;
mod recognition;
mod simulate;
mod store;
mod worker;

use std::time::Duration;

use crate::fleet::FleetRules;
pub use crate::fleet::{Policy, Window};
pub use audit::Audit;
use auto::Place;
pub use aws::{Aws, Launching};
pub use cloud::{Cloud, CloudKind};
pub use fleet::Fleet;
pub use gallery::Gallery;
pub use http::{Anonymous, Http, ReplyStyle, TlsFiles};
pub use layers::{Entry, Layers, SettingsError};
pub use local::Local;
pub use log::{Log, LogFormat};
pub use machine::{Int8, Machine};
pub use prices::Prices;
pub use queue::Queue;
use reader::Reader;
pub use recognition::{RecogniserKind, Recognition, SFACE_FP32, SFACE_INT8, Threshold};
pub use simulate::{Boot, Faults, Simulate};
pub use store::Store;
pub use worker::Worker;

/// All settings, validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the cluster runs.
    pub cloud: Cloud,
    /// The embedded cloud.
    pub local: Local,
    /// Settings that only AWS needs.
    pub aws: Aws,
    /// The web tier.
    pub http: Http,
    /// The queues.
    pub queue: Queue,
    /// Buckets and object keys.
    pub store: Store,
    /// The enrolled people.
    pub gallery: Gallery,
    /// The audit log.
    pub audit: Audit,
    /// The rules of the controller.
    pub fleet: Fleet,
    /// The workers.
    pub worker: Worker,
    /// Models and thresholds.
    pub recognition: Recognition,
    /// Logging.
    pub log: Log,
    /// The simulator's assumptions.
    pub simulate: Simulate,
    /// The prices for the simulator's costs.
    pub prices: Prices,
}

impl Settings {
    /// Validates the merged values. "auto" depends on the machine.
    ///
    /// # Errors
    /// A value is not allowed; the message names its origin, its key and what is allowed.
    pub fn from_layers(layers: &Layers, machine: Machine) -> Result<Self, SettingsError> {
        Self::here(&Reader::new(layers), machine)
    }

    /// Validates the merged values for the simulator. "auto" is resolved as on AWS with one core per instance, so that
    /// a simulation has the same result on every machine.
    ///
    /// # Errors
    /// Same as [`Self::from_layers`].
    pub fn for_simulation(layers: &Layers) -> Result<Self, SettingsError> {
        let r = Reader::new(layers);
        Self::read(&r, Cloud::read(&r)?, Place { local: false, machine: Machine::with_cores(1) })
    }

    /// Returns every key with its origin and its value in [`Self::from_layers`], with "auto" resolved.
    ///
    /// # Errors
    /// Same as [`Self::from_layers`].
    pub fn effective(layers: &Layers, machine: Machine) -> Result<Vec<Entry>, SettingsError> {
        let r = Reader::new(layers);
        Self::here(&r, machine)?;
        Ok(r.effective())
    }

    /// Returns the rules of the fleet's core, whose time begins at `started_at` (since the Unix epoch).
    pub fn fleet_rules(&self, started_at: Duration) -> FleetRules {
        self.fleet.rules(&self.worker, &self.prices, started_at)
    }

    fn here(r: &Reader<'_>, machine: Machine) -> Result<Self, SettingsError> {
        let cloud = Cloud::read(r)?;
        let local = cloud.kind == CloudKind::Local;
        Self::read(r, cloud, Place { local, machine })
    }

    /// Reads every section. Each section validates itself; checks across sections belong here.
    fn read(r: &Reader<'_>, cloud: Cloud, place: Place) -> Result<Self, SettingsError> {
        let local = Local::read(r)?;
        let fleet = Fleet::read(r, place, &local)?;
        let settings = Self {
            aws: Aws::read(r)?,
            http: Http::read(r, place)?,
            queue: Queue::read(r)?,
            store: Store::read(r)?,
            gallery: Gallery::read(r)?,
            audit: Audit::read(r)?,
            worker: Worker::read(r, place, fleet.policy)?,
            recognition: Recognition::read(r, place.machine)?,
            log: Log::read(r)?,
            simulate: Simulate::read(r)?,
            prices: Prices::read(r)?,
            cloud,
            local,
            fleet,
        };
        debug_assert_eq!(r.unread(), Vec::<String>::new(), "keys of config/default.toml that no section reads");
        Ok(settings)
    }
}

#[cfg(test)]
mod tests;

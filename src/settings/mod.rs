//! What is tunable. One file per section holds its type, its checks and what "auto" means there; defaults and
//! documentation are in `config/default.toml`. `layers` merges the files and the environment and remembers where each
//! value came from.

mod auto;
mod aws;
mod cloud;
mod fleet;
mod gallery;
mod http;
mod layers;
mod local;
mod log;
mod queue;
mod recognition;
mod simulate;
mod store;
mod units;
mod worker;

use std::time::Duration;

use crate::fleet::FleetRules;
pub use crate::fleet::policy::{Policy, Window};
use auto::Auto;
pub use aws::{Aws, Launching};
pub use cloud::{Cloud, CloudKind};
pub use fleet::Fleet;
pub use gallery::Gallery;
pub use http::{Http, ReplyStyle};
pub use layers::{Layers, SettingsError};
pub use local::Local;
pub use log::{Log, LogFormat};
pub use queue::Queue;
pub use recognition::{RecogniserKind, Recognition};
pub use simulate::{Boot, Faults, Prices, Simulate};
pub use store::Store;
pub use worker::Worker;

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the cluster runs.
    pub cloud: Cloud,
    /// The embedded cloud.
    pub local: Local,
    /// AWS.
    pub aws: Aws,
    /// The web tier.
    pub http: Http,
    /// The queues.
    pub queue: Queue,
    /// Buckets and keys.
    pub store: Store,
    /// The people who are known.
    pub gallery: Gallery,
    /// What the controller goes by.
    pub fleet: Fleet,
    /// What an instance does.
    pub worker: Worker,
    /// Models and thresholds.
    pub recognition: Recognition,
    /// Log lines.
    pub log: Log,
    /// What the simulator supposes.
    pub simulate: Simulate,
    /// What things cost.
    pub prices: Prices,
}

impl Settings {
    /// Checks the merged values. `cores` resolves "auto".
    ///
    /// # Errors
    /// A value that is not allowed; names its source, its key and what is allowed.
    pub fn from_layers(l: &Layers, cores: usize) -> Result<Self, SettingsError> {
        let cloud = Cloud::from_layers(l)?;
        let auto = Auto { local: cloud.kind == CloudKind::Local, cores };
        Self::resolve(l, cloud, auto)
    }

    /// Checks the merged values for the simulator: "auto" is what it is on AWS, with one core per instance, on every
    /// machine.
    ///
    /// # Errors
    /// As [`Self::from_layers`].
    pub fn for_simulation(l: &Layers) -> Result<Self, SettingsError> {
        Self::resolve(l, Cloud::from_layers(l)?, Auto { local: false, cores: 1 })
    }

    fn resolve(l: &Layers, cloud: Cloud, auto: Auto) -> Result<Self, SettingsError> {
        let local = Local::from_layers(l)?;
        let fleet = Fleet::from_layers(l, auto, &local)?;
        Ok(Self {
            aws: Aws::from_layers(l)?,
            http: Http::from_layers(l, auto)?,
            queue: Queue::from_layers(l)?,
            store: Store::from_layers(l)?,
            gallery: Gallery::from_layers(l)?,
            worker: Worker::from_layers(l, auto, &fleet)?,
            recognition: Recognition::from_layers(l)?,
            log: Log::from_layers(l)?,
            simulate: Simulate::from_layers(l)?,
            prices: Prices::from_layers(l)?,
            cloud,
            local,
            fleet,
        })
    }
}

impl Settings {
    /// Returns the rules of the fleet, for a core whose time begins at `started_at` (since the Unix epoch).
    pub fn fleet_rules(&self, started_at: Duration) -> FleetRules {
        self.fleet.rules(self.worker.threads, self.worker.idle_stop, started_at)
    }
}

#[cfg(test)]
mod tests;

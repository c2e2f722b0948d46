//! The actions that the core requests.

use serde::{Deserialize, Serialize};

use super::instance::InstanceId;

/// A call to make. No action stops a running instance: workers stop themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the depth of the request queue.
    ReadDepth,
    /// Describes the cluster's instances.
    Describe {
        /// Number of the description.
        generation: u64,
    },
    /// Launches instances. Idempotent by token: a repeated token launches no further instances.
    Launch {
        /// Token of the launch.
        token: String,
        /// How many instances.
        count: usize,
    },
    /// Starts stopped instances.
    Start {
        /// Which instances.
        ids: Vec<InstanceId>,
    },
    /// Terminates instances.
    Terminate {
        /// Which instances.
        ids: Vec<InstanceId>,
        /// Why.
        cause: Cause,
    },
}

/// Why instances are terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Stopped, and either in excess of `fleet.keep_stopped`, or its last starts have all failed.
    Sweep,
    /// Not running within `fleet.boot_timeout`.
    BootTimeout,
    /// Not stopped within `fleet.boot_timeout`.
    StopTimeout,
    /// Finished no job for `fleet.silent_timeout`, while jobs waited or long after it should have stopped itself.
    Silent,
    /// Requested before, but not observed in time; or an orphaned launch.
    Again,
}

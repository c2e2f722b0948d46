//! The actions that the core requests.

use serde::{Deserialize, Serialize};

use super::instance::InstanceId;

/// A call to the cloud. There is none to stop an instance: workers stop themselves. Only instances that are stopped, have
/// not come up, count as dead, or are replaced by those of a newer version are terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads the depth of the request queue.
    ReadDepth,
    /// Describes the cluster's instances.
    Describe {
        /// Sequence number of the description, returned in its result.
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
    /// Stopped, and either not needed beyond `fleet.keep_stopped`, or failed to start three times in a row.
    Sweep,
    /// Not running within `fleet.boot_timeout`.
    BootTimeout,
    /// Not stopped within `fleet.boot_timeout`.
    StopTimeout,
    /// Finished no job for `fleet.silent_timeout` while jobs waited, or has not stopped itself long after it should have.
    Silent,
    /// Running, but its worker does not respond.
    Unresponsive,
    /// Launched from an earlier version of its image or its settings. If it is running, its worker finishes its jobs.
    Outdated,
    /// An earlier termination was not observed in time, or a confirmed launch never appeared in a description.
    #[serde(rename = "again")]
    Unobserved,
}

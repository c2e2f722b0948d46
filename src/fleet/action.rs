//! What the core wants done. There is no action that stops a running instance.

use serde::{Deserialize, Serialize};

use super::instance::InstanceId;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    ReadDepth,
    Describe {
        generation: u64,
    },
    /// Idempotent by token: a repeated action with the same token makes no further instances.
    Launch {
        token: String,
        count: usize,
    },
    Start {
        ids: Vec<InstanceId>,
    },
    Terminate {
        ids: Vec<InstanceId>,
        cause: Cause,
    },
}

/// Why instances are terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Stopped, and more than `fleet.keep_stopped`.
    Sweep,
    /// Not ready, or not stopped, within `fleet.boot_timeout`.
    BootTimeout,
    StopTimeout,
    /// Nothing heard of it for `fleet.silent_timeout`, while jobs wait.
    Silent,
    /// Asked for before; the answer was lost, or the instance never showed.
    Again,
}

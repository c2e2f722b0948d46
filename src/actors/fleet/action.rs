//! What the core wants done. There is no action that stops a running instance.

use crate::cloud::InstanceId;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Stopped, and more than `fleet.keep_stopped`.
    Sweep,
    /// Not ready within `fleet.boot_timeout`.
    BootTimeout,
}

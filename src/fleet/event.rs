//! The events that the core receives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    depth::Depth,
    failed_boots::RememberedBoots,
    instance::{Instance, InstanceId},
};
use crate::CloudResult;

/// An input of the core.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// Reports the number of uploads that wait in this process.
    Hint {
        /// Jobs that wait.
        waiting: u64,
    },
    /// A worker has finished jobs. This shows how long a job takes, and that the worker is alive.
    Served {
        /// The worker's instance.
        worker: InstanceId,
        /// How many jobs.
        jobs: u64,
        /// How long they took in total, each from its receive to its reply.
        busy: Duration,
    },
    /// What an earlier controller has learned; see [`FleetCore::learned_state`](super::FleetCore::learned_state).
    Restored {
        /// As that controller returned it.
        state: String,
    },
    /// What an earlier controller has remembered of failed boots; see
    /// [`FleetCore::remembered_boots`](super::FleetCore::remembered_boots).
    BootsRestored {
        /// As that controller returned it.
        boots: RememberedBoots,
    },
    /// The cloud reports that an instance has changed.
    Changed,
    /// Answer to [`super::Action::ReadDepth`].
    Depth(CloudResult<Depth>),
    /// Answer to [`super::Action::Describe`].
    Described {
        /// Number of the description.
        generation: u64,
        /// What the cloud answered.
        result: CloudResult<Vec<Instance>>,
    },
    /// Answer to [`super::Action::Launch`].
    Launched {
        /// Token of the launch.
        token: String,
        /// What the cloud answered.
        result: CloudResult<Vec<InstanceId>>,
    },
    /// Answer to [`super::Action::Start`].
    Started {
        /// What the cloud answered, by instance.
        results: Vec<(InstanceId, CloudResult<()>)>,
    },
    /// Answer to [`super::Action::Terminate`].
    Terminated {
        /// What the cloud answered, by instance.
        results: Vec<(InstanceId, CloudResult<()>)>,
    },
}

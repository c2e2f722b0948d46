//! What the core hears.

use serde::{Deserialize, Serialize};

use super::{
    Time,
    depth::Depth,
    instance::{Instance, InstanceId},
};
use crate::error::CloudResult;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// Uploads that wait in this process now.
    Hint { waiting: u64 },
    /// A worker has finished `jobs`, which took it `busy` in all (the sum over the jobs, each from its receive to its
    /// reply). It tells how long a job takes, and that this worker is alive.
    Served { worker: InstanceId, jobs: u64, busy: Time },
    /// The cloud says that some instance has changed.
    Changed,
    /// Answer to [`super::Action::ReadDepth`].
    Depth(CloudResult<Depth>),
    /// Answer to [`super::Action::Describe`]. It shows the cloud as it was at some time after it was asked.
    Described { generation: u64, result: CloudResult<Vec<Instance>> },
    /// Answer to [`super::Action::Launch`].
    Launched { token: String, result: CloudResult<Vec<InstanceId>> },
    /// Answer to [`super::Action::Start`].
    Started { results: Vec<(InstanceId, CloudResult<()>)> },
    /// Answer to [`super::Action::Terminate`].
    Terminated { results: Vec<(InstanceId, CloudResult<()>)> },
}

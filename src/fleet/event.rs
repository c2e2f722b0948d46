//! What the core is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    depth::Depth,
    instance::{Instance, InstanceId},
};
use crate::error::CloudResult;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// Number of uploads that wait in this process now.
    Hint { waiting: u64 },
    /// A worker has finished `jobs`, which took it `busy` in all (the sum over the jobs, each from its receive to its
    /// reply). It shows how long a job takes, and that this worker is alive.
    Served { worker: InstanceId, jobs: u64, busy: Duration },
    /// The cloud reports that some instance has changed.
    Changed,
    /// Answer to [`super::Action::ReadDepth`].
    Depth(CloudResult<Depth>),
    /// Answer to [`super::Action::Describe`]: the instances as they were at some time after the call was made.
    Described { generation: u64, result: CloudResult<Vec<Instance>> },
    /// Answer to [`super::Action::Launch`].
    Launched { token: String, result: CloudResult<Vec<InstanceId>> },
    /// Answer to [`super::Action::Start`].
    Started { results: Vec<(InstanceId, CloudResult<()>)> },
    /// Answer to [`super::Action::Terminate`].
    Terminated { results: Vec<(InstanceId, CloudResult<()>)> },
}

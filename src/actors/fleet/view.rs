//! What the fleet shows of itself: `/v1/fleet`, the page, `rollcall fleet`.

use serde::{Deserialize, Serialize};

use crate::cloud::{Depth, InstanceState};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetView {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The cap.
    pub max_instances: usize,
    pub policy: String,
    /// The request queue when last read.
    pub depth: Depth,
    /// Jobs known to exist: the depth, or the uploads waiting in this process if they are more.
    pub demand: u64,
    /// Instances wanted.
    pub target: usize,
    /// Launches and starts asked for and not yet seen.
    pub intents: usize,
    pub counts: Counts,
    /// By name; terminated ones for a while.
    pub instances: Vec<InstanceView>,
    /// Most recent last.
    pub story: Vec<StoryLine>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub pending: usize,
    pub running: usize,
    pub stopping: usize,
    pub stopped: usize,
    pub shutting_down: usize,
    pub terminated: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    pub id: String,
    pub name: String,
    pub state: InstanceState,
    pub pid: Option<u32>,
    /// Milliseconds since the Unix epoch at which this state was first seen.
    pub since_ms: u64,
    pub reason: Option<String>,
}

/// A decision or a change of state, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryLine {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `launch`, `start`, `terminate`, `sweep`, `state`, `error`.
    pub kind: String,
    /// One sentence with the numbers it was decided on.
    pub text: String,
}

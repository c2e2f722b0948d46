//! Every decision with what it was made on, so that "why seven instances?" and "why did this one stop?" have answers.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Time,
    depth::Depth,
    instance::InstanceId,
    policy::{LearnedTimes, Policy},
    view::Counts,
};

/// Decisions kept, unless somebody wants them all.
const KEPT: usize = 1000;

/// What became of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// New ones were asked for.
    Launch,
    /// Stopped ones were asked to start.
    Start,
    /// One stopped, by itself or by somebody else's hand: the controller stops nothing.
    Stop,
    /// The controller had them terminated.
    Terminate,
    /// One ended without being asked, or is not shown by the cloud any more.
    Lost,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Terminate => "terminate",
            Self::Lost => "lost",
        }
    }
}

/// The numbers a decision was made on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    pub policy: Policy,
    /// The request queue when last read.
    pub depth: Depth,
    /// Uploads waiting in this process, if newer than the depth.
    pub hint: u64,
    /// Jobs known to exist.
    pub demand: u64,
    /// The most instances there may be.
    pub cap: usize,
    /// Instances wanted, and the part of it that the schedule asks for.
    pub target: usize,
    pub scheduled: usize,
    /// Instances by state, as last seen.
    pub counts: Counts,
    /// New instances, and starts, asked for and not seen.
    pub launching: usize,
    pub starting: usize,
    /// Times that were planned with.
    pub learned: LearnedTimes,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Counts up from 0 in one life of the controller.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub kind: Kind,
    /// Ids; empty while a launch has not been answered.
    pub instances: Vec<String>,
    pub count: usize,
    /// One sentence.
    pub reason: String,
    pub inputs: Inputs,
    /// Of a launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The latest decisions, oldest first. Cheap to clone and to share.
pub type Decisions = Arc<VecDeque<Arc<Decision>>>;

/// The ring of them.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub decisions: Decisions,
    pub kept: usize,
    next: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { decisions: Decisions::default(), kept: KEPT, next: 0 }
    }
}

impl Memory {
    /// Keeps a decision, whose number is set here.
    pub fn keep(&mut self, mut decision: Decision) {
        decision.number = self.next;
        self.next += 1;
        let ring = Arc::make_mut(&mut self.decisions);
        if ring.len() >= self.kept {
            ring.pop_front();
        }
        ring.push_back(Arc::new(decision));
    }

    /// The launch under `token` made these.
    pub fn name(&mut self, token: &str, ids: &[InstanceId]) {
        let ring = Arc::make_mut(&mut self.decisions);
        if let Some(decision) = ring.iter_mut().rev().find(|d| d.token.as_deref() == Some(token)) {
            Arc::make_mut(decision).instances = ids.iter().map(|id| id.0.clone()).collect();
        }
    }
}

/// Whole milliseconds since the Unix epoch.
pub(super) fn unix_ms(started_at: Time, at: Time) -> u64 {
    u64::try_from((started_at + at).as_millis()).unwrap_or(u64::MAX)
}

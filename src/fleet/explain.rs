//! Decisions with what they were made on, so that "why seven instances?" and "why did this one stop?" have answers.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{counts::Counts, depth::Depth, learned_times::LearnedTimes, rules::Policy};

/// What happened to instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// New ones were requested.
    Launch,
    /// Stopped ones were requested to start.
    Start,
    /// One stopped, by itself or by another's hand: the controller stops none.
    Stop,
    /// The controller had them terminated.
    Terminate,
    /// One ended unrequested, or the cloud does not show it any more.
    Lost,
}

impl Kind {
    /// Returns the kind's name.
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
    /// The policy.
    pub policy: Policy,
    /// The request queue when last read.
    pub depth: Depth,
    /// Uploads waiting in this process, if newer than the depth.
    pub hint: u64,
    /// Jobs known to exist.
    pub demand: u64,
    /// The most instances there may be.
    pub cap: usize,
    /// Instances wanted.
    pub target: usize,
    /// Of these, the schedule's minimum.
    pub scheduled: usize,
    /// Instances by state, as last seen.
    pub counts: Counts,
    /// New instances that were requested and not seen.
    pub launching: usize,
    /// Stopped instances whose start was requested and not seen.
    pub starting: usize,
    /// Times that were planned with.
    pub learned: LearnedTimes,
}

impl Inputs {
    /// Returns the most important numbers as text.
    pub(super) fn summary(&self) -> String {
        format!(
            "demand {}, target {} by {}, cap {}; {} pending, {} running, {} asked for, {} stopping, {} stopped",
            self.demand,
            self.target,
            self.policy.name(),
            self.cap,
            self.counts.pending,
            self.counts.running,
            self.launching + self.starting,
            self.counts.stopping,
            self.counts.stopped,
        )
    }
}

/// What happened to instances, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Counts up from 0 in one controller epoch.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What was decided.
    pub kind: Kind,
    /// Ids; empty while a launch has not been answered.
    pub instances: Vec<String>,
    /// How many instances.
    pub count: usize,
    /// One sentence.
    pub reason: String,
    /// The numbers it was decided on.
    pub inputs: Inputs,
    /// Of a launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The latest decisions, oldest first. Cheap to clone and to share.
pub type Decisions = Arc<VecDeque<Arc<Decision>>>;

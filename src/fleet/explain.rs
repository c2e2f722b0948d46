//! Decisions with their inputs, which answer "why seven instances?" and "why did this instance stop?".

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{adaptive::LearnedThresholds, counts::Counts, depth::Depth, learned_times::LearnedTimes, rules::Policy};

/// A kind of decision or change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = DecisionKind)]
pub enum Kind {
    /// New instances were requested.
    Launch,
    /// Starts of stopped instances were requested.
    Start,
    /// An instance stopped, by itself or at someone else's request: the controller never stops instances.
    Stop,
    /// The controller terminated instances.
    Terminate,
    /// An instance ended without a request, or the cloud no longer lists it.
    Lost,
    /// So many boots in a row have failed that instances are tried one at a time.
    Degraded,
    /// An instance has become ready after so many failed boots.
    Recovered,
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
            Self::Degraded => "degraded",
            Self::Recovered => "recovered",
        }
    }
}

/// The numbers on which a decision is based.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DecisionInputs)]
pub struct Inputs {
    /// The policy.
    pub policy: Policy,
    /// The depth of the request queue as last read.
    pub depth: Depth,
    /// Uploads that wait in this process, if newer than the depth.
    pub hint: u64,
    /// Jobs known to exist.
    pub demand: u64,
    /// The maximum number of instances.
    pub cap: usize,
    /// Instances wanted.
    pub target: usize,
    /// Of these, the schedule's minimum.
    pub scheduled: usize,
    /// Instances by state, as last seen.
    pub counts: Counts,
    /// New instances that were requested and not seen yet.
    pub launching: usize,
    /// Stopped instances whose start was requested and not seen yet.
    pub starting: usize,
    /// The learned times.
    pub learned: LearnedTimes,
    /// The learned thresholds, with the policy that learns them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<LearnedThresholds>,
}

impl Inputs {
    /// Returns the most important numbers as text.
    pub(super) fn summary(&self) -> String {
        let learned = self.adaptive.map_or_else(String::new, |learned| format!("; {}", learned.summary()));
        format!(
            "demand {}, target {} by {}, cap {}; {} pending, {} running, {} requested, {} stopping, {} stopped{learned}",
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

/// A decision or change, with its reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Decision {
    /// Sequence number within the controller epoch, from 0.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The kind.
    pub kind: Kind,
    /// Ids of the instances; empty while a launch has not been answered.
    pub instances: Vec<String>,
    /// Number of instances.
    pub count: usize,
    /// The reason in words.
    pub reason: String,
    /// The numbers on which it is based.
    pub inputs: Inputs,
    /// The token of a launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// The latest decisions, oldest first. Cheap to clone and to share.
pub type Decisions = Arc<VecDeque<Arc<Decision>>>;

//! The view of the fleet that `/v1/fleet`, the page and `rollcall fleet` show.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    adaptive::LearnedThresholds, counts::Counts, depth::Depth, explain::Decisions, fleet_core::FleetCore,
    instance::InstanceState, learned_times::LearnedTimes, timestamp::Timestamp, tracked::Tracked,
};

/// The state of the fleet, for display.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FleetView {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The cap.
    pub max_instances: usize,
    /// The policy's name.
    pub policy: String,
    /// The depth of the request queue as last read.
    pub depth: Depth,
    /// Jobs known to exist: the depth, or the number of uploads that wait in this process if that is larger.
    pub demand: u64,
    /// Instances wanted.
    pub target: usize,
    /// Launches and starts that were requested and not yet seen.
    pub intents: usize,
    /// The learned times.
    pub learned: LearnedTimes,
    /// The learned thresholds, with the policy that learns them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<LearnedThresholds>,
    /// Instances by state.
    pub counts: Counts,
    /// Set while the fleet is degraded, because boots fail or the cloud refuses to give it any instance.
    #[serde(default)]
    pub degraded: Option<DegradedView>,
    /// The instances, ordered by name, including terminated ones for some time.
    pub instances: Vec<InstanceView>,
    /// The latest activities, newest last.
    pub events: Vec<LoggedEvent>,
    /// The latest decisions, for `/v1/fleet/decisions`.
    #[serde(skip)]
    pub decisions: Decisions,
}

/// The state of a degraded fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DegradedView {
    /// When it began, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Number of boots in a row that ended before a worker was ready.
    pub failed_boots: usize,
    /// Number of launches and starts in a row that the cloud refused, if that is why the fleet is degraded; otherwise 0.
    #[serde(default)]
    pub refused: usize,
    /// The next instance is not tried before this time, in milliseconds since the Unix epoch. `None` while one boots or is
    /// requested.
    pub next_attempt_ms: Option<u64>,
    /// How the last boot failed, or the last request was refused.
    pub reason: String,
}

impl DegradedView {
    /// Returns what has happened, without the reason, which may name what not everybody should know.
    pub fn summary(&self) -> String {
        match self.refused {
            0 => format!("{} boots in a row failed", self.failed_boots),
            refused => format!("{refused} requests for instances in a row were refused"),
        }
    }
}

impl fmt::Display for DegradedView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, the last because {}", self.summary(), self.reason)
    }
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// The instance's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: InstanceState,
    /// Process id of its worker, on one machine.
    pub pid: Option<u32>,
    /// When this state was first seen, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Why it is in this state, if the cloud reports a reason.
    pub reason: Option<String>,
}

/// A decision, a change of state or an error, for display.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoggedEvent {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `launch`, `start`, `stop`, `terminate`, `lost`, `degraded`, `recovered`, `state` or `error`.
    pub kind: String,
    /// One sentence; for a decision, with its inputs.
    pub text: String,
}

impl FleetView {
    /// Creates the view of `core`; `unix_ms` is `now` in milliseconds since the Unix epoch.
    pub fn new(core: &FleetCore, now: Timestamp, unix_ms: u64) -> Self {
        let ms = |at: Timestamp| unix_ms.saturating_sub(now.saturating_since(at).as_millis() as u64);
        let later = |at: Timestamp| unix_ms.saturating_add(at.saturating_since(now).as_millis() as u64);
        let either = |at: Timestamp| if at > now { later(at) } else { ms(at) };
        let failing = core.degraded().map(|degraded| DegradedView {
            since_ms: ms(degraded.since).saturating_sub(degraded.earlier.as_millis() as u64),
            failed_boots: degraded.failed_boots,
            refused: 0,
            next_attempt_ms: degraded.next_attempt.map(either),
            reason: degraded.reason,
        });
        let refused = core.refused().map(|refused| DegradedView {
            since_ms: ms(refused.since),
            failed_boots: 0,
            refused: refused.requests,
            next_attempt_ms: refused.next_attempt.map(either),
            reason: refused.reason,
        });
        let show = |tracked: &Tracked| InstanceView {
            id: tracked.instance.id.0.clone(),
            name: tracked.instance.name.clone(),
            state: tracked.instance.state,
            pid: tracked.instance.pid,
            since_ms: ms(tracked.since),
            reason: tracked.instance.reason.clone(),
        };
        let inputs = core.inputs();
        let mut instances: Vec<InstanceView> = core.instances().iter().map(show).collect();
        instances.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        let activities = core.decision_log().activities().iter();
        Self {
            at_ms: unix_ms,
            max_instances: inputs.cap,
            policy: inputs.policy.name().to_owned(),
            depth: inputs.depth,
            demand: inputs.demand,
            target: inputs.target,
            intents: inputs.launching + inputs.starting,
            learned: inputs.learned,
            adaptive: inputs.adaptive,
            counts: inputs.counts,
            degraded: failing.or(refused),
            instances,
            events: activities
                .map(|a| LoggedEvent { at_ms: ms(a.at), kind: a.kind.to_owned(), text: a.text.clone() })
                .collect(),
            decisions: core.decisions().clone(),
        }
    }
}

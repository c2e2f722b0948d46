//! The view of the fleet that `/v1/fleet`, the page and `rollcall fleet` show.

use serde::{Deserialize, Serialize};

use super::{
    counts::Counts, depth::Depth, explain::Decisions, fleet_core::FleetCore, instance::InstanceState,
    learned_times::LearnedTimes, timestamp::Timestamp, tracked::Tracked,
};

/// The fleet as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetView {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The cap.
    pub max_instances: usize,
    /// The policy's name.
    pub policy: String,
    /// The request queue when last read.
    pub depth: Depth,
    /// Jobs known to exist: the depth, or the uploads waiting in this process if they are more.
    pub demand: u64,
    /// Instances wanted.
    pub target: usize,
    /// Launches and starts that were requested and not yet seen.
    pub intents: usize,
    /// Times that policies plan with.
    pub learned: LearnedTimes,
    /// Instances by state.
    pub counts: Counts,
    /// By name; terminated ones for a while.
    pub instances: Vec<InstanceView>,
    /// Most recent last.
    pub events: Vec<LoggedEvent>,
    /// Shown by `/v1/fleet/decisions`.
    #[serde(skip)]
    pub decisions: Decisions,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceView {
    /// The instance's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: InstanceState,
    /// Its worker's process, on one machine.
    pub pid: Option<u32>,
    /// Milliseconds since the Unix epoch at which this state was first seen.
    pub since_ms: u64,
    /// Why it is in this state, where the cloud says so.
    pub reason: Option<String>,
}

/// A decision, a change of state or an error, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `launch`, `start`, `stop`, `terminate`, `lost`, `state` or `error`.
    pub kind: String,
    /// One sentence with the numbers it was decided on.
    pub text: String,
}

impl FleetView {
    /// Returns the view of `core`; `unix_ms` is `now` as milliseconds since the Unix epoch.
    pub fn new(core: &FleetCore, now: Timestamp, unix_ms: u64) -> Self {
        let ms = |at: Timestamp| unix_ms.saturating_sub(now.saturating_since(at).as_millis() as u64);
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
        let activities = core.journal().activities().iter();
        Self {
            at_ms: unix_ms,
            max_instances: inputs.cap,
            policy: inputs.policy.name().to_owned(),
            depth: inputs.depth,
            demand: inputs.demand,
            target: inputs.target,
            intents: inputs.launching + inputs.starting,
            learned: inputs.learned,
            counts: inputs.counts,
            instances,
            events: activities
                .map(|a| LoggedEvent { at_ms: ms(a.at), kind: a.kind.to_owned(), text: a.text.clone() })
                .collect(),
            decisions: core.decisions().clone(),
        }
    }
}

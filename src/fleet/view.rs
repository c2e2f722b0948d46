//! What the fleet shows of itself: `/v1/fleet`, the page, `rollcall fleet`.

use serde::{Deserialize, Serialize};

use super::{
    Time, depth::Depth, explain::Decisions, instance::InstanceState, instances::Role, policy::LearnedTimes,
    state::FleetCore,
};

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
    /// Times that policies plan with.
    pub learned: LearnedTimes,
    pub counts: Counts,
    /// By name; terminated ones for a while.
    pub instances: Vec<InstanceView>,
    /// Most recent last.
    pub events: Vec<LoggedEvent>,
    /// Shown by `/v1/fleet/decisions`.
    #[serde(skip)]
    pub decisions: Decisions,
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
pub struct LoggedEvent {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// `launch`, `start`, `stop`, `terminate`, `lost`, `state`, `error`.
    pub kind: String,
    /// One sentence with the numbers it was decided on.
    pub text: String,
}

impl FleetCore {
    /// What is shown of the fleet; `epoch_ms` is `now` as milliseconds since the Unix epoch.
    pub fn view(&self, now: Time, epoch_ms: u64) -> FleetView {
        let ms = |at: Time| epoch_ms.saturating_sub(now.saturating_sub(at).as_millis() as u64);
        let show = |slot: &super::instances::Slot| InstanceView {
            id: slot.instance.id.0.clone(),
            name: slot.instance.name.clone(),
            state: slot.instance.state,
            pid: slot.instance.pid,
            since_ms: ms(slot.since),
            reason: slot.instance.reason.clone(),
        };
        let mut instances: Vec<InstanceView> = self.instances.iter().map(show).collect();
        instances.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        FleetView {
            at_ms: epoch_ms,
            max_instances: self.cap(),
            policy: self.rules.policy.name().to_owned(),
            depth: self.depth(),
            demand: self.demand(),
            target: self.target(),
            intents: self.launches.outstanding() + self.instances.count(Role::Starting),
            learned: self.learning.times(),
            counts: self.instances.counts(),
            instances,
            events: self
                .event_log
                .lines()
                .map(|line| LoggedEvent { at_ms: ms(line.at), kind: line.kind.to_owned(), text: line.text.clone() })
                .collect(),
            decisions: self.decisions().clone(),
        }
    }
}

//! The decision log: the latest decisions and activities.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    activity_log::ActivityLog,
    explain::{Decision, Decisions, Inputs, Kind},
    instance::{Instance, InstanceId, InstanceState},
    timestamp::Timestamp,
};

/// Number of decisions kept by default.
const KEPT: usize = 1000;

/// A decision or change, for [`DecisionLog::explain`].
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub kind: Kind,
    pub instances: Vec<InstanceId>,
    pub count: usize,
    pub reason: String,
    pub token: Option<String>,
}

/// Keeps the latest decisions and activities. Every phase writes to it.
#[derive(Clone, Debug)]
pub(super) struct DecisionLog {
    started_at: Duration,
    activities: ActivityLog,
    decisions: Decisions,
    kept: usize,
    next_number: u64,
}

impl DecisionLog {
    /// Creates the log of a controller that started at `started_at`, as time since the Unix epoch.
    pub fn new(started_at: Duration) -> Self {
        Self {
            started_at,
            activities: ActivityLog::default(),
            decisions: Decisions::default(),
            kept: KEPT,
            next_number: 0,
        }
    }

    /// Keeps all decisions instead of only the latest thousand.
    pub fn keep_all(&mut self) {
        self.kept = usize::MAX;
    }

    pub fn activities(&self) -> &ActivityLog {
        &self.activities
    }

    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    pub fn note(&mut self, now: Timestamp, kind: &'static str, text: String) {
        self.activities.note(now, kind, text);
    }

    pub fn error(&mut self, now: Timestamp, text: String) {
        self.note(now, "error", text);
    }

    /// Records that an instance has changed its state, or was seen for the first time.
    pub fn state_change(&mut self, now: Timestamp, before: Option<InstanceState>, instance: &Instance) {
        let word = |state: InstanceState| format!("{state:?}").to_lowercase();
        let from = before.map_or_else(String::new, |old| format!("{} → ", word(old)));
        let reason = instance.reason.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
        self.note(now, "state", format!("{} {from}{}{reason}", instance.name, word(instance.state)));
    }

    /// Records a decision with its inputs.
    pub fn explain(&mut self, now: Timestamp, change: Change, inputs: Inputs) {
        let Change { kind, instances, count, reason, token } = change;
        self.note(now, kind.name(), reason.clone());
        let decision = Decision {
            number: self.next_number,
            at_ms: u64::try_from((self.started_at + now.since_start()).as_millis()).unwrap_or(u64::MAX),
            kind,
            instances: instances.into_iter().map(|id| id.0).collect(),
            count,
            reason,
            inputs,
            token,
        };
        self.next_number += 1;
        let ring: &mut VecDeque<_> = Arc::make_mut(&mut self.decisions);
        if ring.len() >= self.kept {
            ring.pop_front();
        }
        ring.push_back(Arc::new(decision));
    }

    /// Adds the launched instances to the decision of the launch with `token`.
    pub fn launched(&mut self, token: &str, ids: &[InstanceId]) {
        let ring = Arc::make_mut(&mut self.decisions);
        if let Some(decision) = ring.iter_mut().rev().find(|d| d.token.as_deref() == Some(token)) {
            Arc::make_mut(decision).instances = ids.iter().map(|id| id.0.clone()).collect();
        }
    }
}

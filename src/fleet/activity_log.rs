//! The latest activities of the fleet, for people.

use std::collections::VecDeque;

use super::timestamp::Timestamp;

/// Number of activities kept.
const KEPT: usize = 500;

/// A decision, a change of state or an error.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    pub at: Timestamp,
    pub kind: &'static str,
    pub text: String,
}

/// A ring of activities.
#[derive(Clone, Debug, Default)]
pub(super) struct ActivityLog(VecDeque<Activity>);

impl ActivityLog {
    /// Adds an activity, unless it repeats the last one.
    pub fn note(&mut self, at: Timestamp, kind: &'static str, text: String) {
        if self.0.back().is_some_and(|last| last.kind == kind && last.text == text) {
            return;
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Activity { at, kind, text });
    }

    /// Iterates over the activities, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Activity> {
        self.0.iter()
    }
}

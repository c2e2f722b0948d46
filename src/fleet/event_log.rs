//! The event log: every event of a controller, from which its decisions can be replayed. JSON, one line per entry.
//!
//! A controller epoch begins with its rules, followed by its events with their times. The core is pure, so the same
//! events give the same decisions. Replayed with another policy, the log shows what that policy would have decided on
//! the same observations, but not the consequences of those decisions; the simulator shows those.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    event::Event,
    explain::Decision,
    fleet_core::FleetCore,
    instance::Instance,
    rules::{FleetRules, Policy},
    timestamp::Timestamp,
};

/// One line of an event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// A controller starts.
    #[serde(rename = "life")]
    Epoch {
        /// The controller's epoch.
        epoch: u64,
        /// Its rules.
        rules: Box<FleetRules>,
    },
    /// The controller receives an event.
    Event {
        /// When.
        at: Timestamp,
        /// What happened.
        event: Event,
    },
    /// The controller receives a description that equals the last one. Descriptions are by far the most frequent and
    /// the longest events.
    Same {
        /// When.
        at: Timestamp,
        /// Number of the description.
        generation: u64,
    },
}

/// Encodes events as lines of an event log.
#[derive(Debug, Default)]
pub struct EventEncoder {
    described: Option<Vec<Instance>>,
}

impl EventEncoder {
    /// Returns the first line of a controller epoch.
    pub fn epoch(epoch: u64, rules: &FleetRules) -> String {
        line(&Entry::Epoch { epoch, rules: Box::new(rules.clone()) })
    }

    /// Returns the line of an event.
    pub fn event(&mut self, at: Timestamp, event: &Event) -> String {
        if let Event::Described { generation, result: Ok(instances) } = event {
            if self.described.as_ref() == Some(instances) {
                return line(&Entry::Same { at, generation: *generation });
            }
            self.described = Some(instances.clone());
        }
        line(&Entry::Event { at, event: event.clone() })
    }
}

fn line(entry: &Entry) -> String {
    // Serialization cannot fail: an entry consists of numbers, strings, lists and enums, without maps.
    let mut text = serde_json::to_string(entry).expect("an entry is JSON");
    text.push('\n');
    text
}

/// One replayed controller epoch.
#[derive(Debug)]
pub struct Replayed {
    /// The policy that decided.
    pub policy: Policy,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Number of events.
    pub events: u64,
    /// What was decided.
    pub decisions: Vec<Arc<Decision>>,
}

/// Why a text is not an event log.
#[derive(Debug, thiserror::Error)]
pub enum EventLogError {
    /// A line is malformed.
    #[error("line {number} is not a line of an event log: {problem}")]
    Line {
        /// Number of the line.
        number: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A line does not belong to an epoch.
    #[error("line {0} comes before the beginning of a controller epoch")]
    NoEpoch(usize),
}

/// Replays an event log through the core, with the recorded policy or with another one. The last line of an epoch may
/// have been cut off by a crash; it is skipped in that case.
///
/// # Errors
///
/// Fails if any other line is not an entry, or if the first entry does not begin an epoch.
pub fn replay<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    policy: Option<Policy>,
) -> Result<Vec<Replayed>, EventLogError> {
    let mut epochs = Vec::new();
    let mut current: Option<(FleetCore, Replayed)> = None;
    let mut described = Vec::new();
    let mut broken: Option<EventLogError> = None;
    for (n, text) in lines.into_iter().enumerate() {
        let entry = match (serde_json::from_str(text), broken.take()) {
            (Ok(entry), None) => entry,
            (Ok(entry @ Entry::Epoch { .. }), Some(_)) => entry,
            (_, Some(error)) => return Err(error),
            (Err(problem), None) => {
                broken = Some(EventLogError::Line { number: n + 1, problem: problem.to_string() });
                continue;
            }
        };
        let (at, event) = match entry {
            Entry::Epoch { epoch, mut rules } => {
                epochs.extend(current.take().map(finish));
                rules.policy = policy.unwrap_or(rules.policy);
                let started_ms = rules.started_at.as_millis() as u64;
                let replayed = Replayed { policy: rules.policy, started_ms, events: 0, decisions: Vec::new() };
                let mut core = FleetCore::new(*rules, epoch);
                core.keep_all_decisions();
                current = Some((core, replayed));
                described.clear();
                continue;
            }
            Entry::Event { at, event } => (at, event),
            Entry::Same { at, generation } => (at, Event::Described { generation, result: Ok(described.clone()) }),
        };
        if let Event::Described { result: Ok(instances), .. } = &event {
            described.clone_from(instances);
        }
        let (core, replayed) = current.as_mut().ok_or(EventLogError::NoEpoch(n + 1))?;
        core.step(event, at);
        replayed.events += 1;
    }
    epochs.extend(current.map(finish));
    Ok(epochs)
}

fn finish((core, replayed): (FleetCore, Replayed)) -> Replayed {
    Replayed { decisions: core.decisions().iter().cloned().collect(), ..replayed }
}

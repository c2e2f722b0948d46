//! A record of what the core heard, from which its decisions can be made again: JSON, a line each.
//!
//! A life of the controller begins with its rules; then come its events with their times. The core is pure, so the same
//! events give the same decisions; and another policy shows what it would have decided on the same observations (they are
//! those of what really happened: for what would have come of it, simulate).

use std::{
    io::{self, BufRead},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Time, event::Event, explain::Decision, instance::Instance, policy::Policy, rules::FleetRules, state::FleetCore,
};

/// A line of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// A controller begins.
    Life { epoch: u64, rules: Box<FleetRules> },
    /// It hears something.
    Event { at: Time, event: Event },
    /// It hears a description that is equal to the last one, by far the most frequent and the longest.
    Same { at: Time, generation: u64 },
}

/// Makes lines of events.
#[derive(Debug, Default)]
pub struct EventRecorder {
    described: Option<Vec<Instance>>,
}

impl EventRecorder {
    /// The first line of a life.
    pub fn life(epoch: u64, rules: &FleetRules) -> String {
        json(&Line::Life { epoch, rules: Box::new(rules.clone()) })
    }

    /// The line of an event.
    pub fn event(&mut self, at: Time, event: &Event) -> String {
        if let Event::Described { generation, result: Ok(instances) } = event {
            if self.described.as_ref() == Some(instances) {
                return json(&Line::Same { at, generation: *generation });
            }
            self.described = Some(instances.clone());
        }
        json(&Line::Event { at, event: event.clone() })
    }
}

fn json(line: &Line) -> String {
    // Numbers, strings, lists and enums alone: always JSON, on one line.
    let mut text = serde_json::to_string(line).expect("a line is JSON");
    text.push('\n');
    text
}

/// One life of a controller, decided again.
#[derive(Debug)]
pub struct Replayed {
    pub policy: Policy,
    /// Milliseconds since the Unix epoch.
    pub started_ms: u64,
    pub events: u64,
    pub decisions: Vec<Arc<Decision>>,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("line {number} is not a line of a record: {problem}")]
    Line { number: usize, problem: String },
    #[error("line {0} comes before the beginning of a controller's life")]
    NoLife(usize),
}

/// Takes a record through the core, by its own policy or by another. The last line of a life may have been cut off by a
/// crash: it is left out.
pub fn replay(record: impl BufRead, policy: Option<Policy>) -> Result<Vec<Replayed>, RecordError> {
    let mut lives = Vec::new();
    let mut life: Option<(FleetCore, Replayed)> = None;
    let mut described = Vec::new();
    let mut broken: Option<RecordError> = None;
    for (n, text) in record.lines().enumerate() {
        let line = match (serde_json::from_str(&text?), broken.take()) {
            (Ok(line), None) => line,
            (Ok(line @ Line::Life { .. }), Some(_)) => line,
            (_, Some(error)) => return Err(error),
            (Err(problem), None) => {
                broken = Some(RecordError::Line { number: n + 1, problem: problem.to_string() });
                continue;
            }
        };
        let (at, event) = match line {
            Line::Life { epoch, mut rules } => {
                lives.extend(life.take().map(finish));
                rules.policy = policy.unwrap_or(rules.policy);
                let started_ms = rules.started_at.as_millis() as u64;
                let replayed = Replayed { policy: rules.policy, started_ms, events: 0, decisions: Vec::new() };
                let mut core = FleetCore::new(*rules, epoch);
                core.keep_all_decisions();
                life = Some((core, replayed));
                described.clear();
                continue;
            }
            Line::Event { at, event } => (at, event),
            Line::Same { at, generation } => (at, Event::Described { generation, result: Ok(described.clone()) }),
        };
        if let Event::Described { result: Ok(instances), .. } = &event {
            described.clone_from(instances);
        }
        let (core, replayed) = life.as_mut().ok_or(RecordError::NoLife(n + 1))?;
        core.step(event, at);
        replayed.events += 1;
    }
    lives.extend(life.map(finish));
    Ok(lives)
}

fn finish((core, replayed): (FleetCore, Replayed)) -> Replayed {
    Replayed { decisions: core.decisions().iter().cloned().collect(), ..replayed }
}

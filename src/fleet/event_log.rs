//! What the fleet did and why, for people: the latest lines.

use std::collections::VecDeque;

use super::Time;

/// Lines kept.
const LINES: usize = 500;

#[derive(Clone, Debug)]
pub struct Line {
    pub at: Time,
    pub kind: &'static str,
    pub text: String,
}

#[derive(Clone, Debug, Default)]
pub struct EventLog(VecDeque<Line>);

impl EventLog {
    /// Adds a line; one that repeats the last is left out.
    pub fn record(&mut self, at: Time, kind: &'static str, text: String) {
        if self.0.back().is_some_and(|last| last.kind == kind && last.text == text) {
            return;
        }
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(Line { at, kind, text });
    }

    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.0.iter()
    }
}

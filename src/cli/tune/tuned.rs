//! The result of a search.

use serde::Serialize;

use super::{frontier::Goal, trial::Trial};

/// The result of the command.
#[derive(Debug, Serialize)]
pub struct Tuned {
    pub trace: String,
    pub requests: usize,
    /// Configurations that were simulated.
    pub tried: usize,
    /// Configurations that are not allowed.
    pub rejected: usize,
    pub goal: Goal,
    pub present: Trial,
    pub chosen: Trial,
    pub frontier: Vec<Trial>,
    /// Cost and p99 of every configuration that was simulated.
    #[serde(skip)]
    pub all: Vec<(f64, f64)>,
}

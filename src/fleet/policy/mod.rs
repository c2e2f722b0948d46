//! The policies: pure functions that compute how many instances are wanted. One file per policy, each with its formula.
//!
//! The core starts and launches up to the target and stops no running instance: idle workers stop themselves.

mod backlog;
mod deadline;
mod known;
mod one_per_job;

use crate::{
    rules::{FleetRules, Policy},
    schedule::scheduled,
};

pub use known::Known;

/// Returns the number of instances wanted, at most `known.cap`: the policy's result, raised to the schedule's minimum.
pub fn target(known: &Known, rules: &FleetRules) -> usize {
    let wanted = match rules.policy {
        Policy::OnePerJob => one_per_job::target(known),
        Policy::Backlog => backlog::target(known, rules),
        Policy::Deadline => deadline::target(known, rules),
    };
    wanted.max(scheduled(&rules.schedule, known.clock)).min(known.cap)
}

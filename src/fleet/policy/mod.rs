//! The number of instances wanted: pure functions of what is known. One file per policy, each with its formula.
//!
//! The core starts and launches up to the target and stops no running instance: workers stop themselves when they have
//! been idle.

mod backlog;
mod deadline;
mod known;
mod one_per_job;

use crate::fleet::{
    rules::{FleetRules, Policy},
    schedule::scheduled,
};

pub use known::Known;

/// Returns the number of instances wanted, never more than `known.cap`: the policy's answer, raised to the schedule's
/// minimum.
pub fn target(known: &Known, rules: &FleetRules) -> usize {
    let wanted = match rules.policy {
        Policy::OnePerJob => one_per_job::target(known),
        Policy::Backlog => backlog::target(known, rules),
        Policy::Deadline => deadline::target(known, rules),
    };
    wanted.max(scheduled(&rules.schedule, known.clock)).min(known.cap)
}

//! The policies: pure functions that compute how many instances are wanted. One file per policy, each with its formula.
//!
//! The core starts and launches up to the target and stops no running instance: idle workers stop themselves.

mod backlog;
mod deadline;
mod input;
mod one_per_job;

use crate::{
    rules::{FleetRules, Policy},
    schedule::scheduled,
};

pub use input::PolicyInput;

/// Returns the number of instances wanted, at most `input.cap`: the policy's result, raised to the schedule's minimum.
pub fn target(input: &PolicyInput, rules: &FleetRules) -> usize {
    let wanted = match rules.policy {
        Policy::OnePerJob => one_per_job::target(input),
        Policy::Backlog => backlog::target(input, rules),
        Policy::Deadline => deadline::target(input, rules),
        Policy::Adaptive => input.adaptive,
    };
    wanted.max(scheduled(&rules.schedule, input.clock)).min(input.cap)
}

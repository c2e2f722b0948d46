//! How many instances are wanted: pure functions of what is known. One file a policy, each with its formula.
//!
//! A target is a wish, not a command: the core starts and launches up to it, and never stops what runs; workers stop
//! themselves when they have been idle.

mod backlog;
mod deadline;
mod one_per_job;
mod schedule;

use serde::{Deserialize, Serialize};

use super::{Time, rules::FleetRules};

pub use schedule::{NoWindow, Window};

/// How the number of wanted instances is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    #[serde(alias = "report")]
    OnePerJob,
    Backlog,
    Deadline,
}

impl Policy {
    /// By name, as in the configuration; `report` is the name that the first configurations used.
    pub const ALL: [(&str, Self); 4] = [
        ("one-per-job", Self::OnePerJob),
        ("backlog", Self::Backlog),
        ("deadline", Self::Deadline),
        ("report", Self::OnePerJob),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::OnePerJob => "one-per-job",
            Self::Backlog => "backlog",
            Self::Deadline => "deadline",
        }
    }
}

/// What a policy may know. Every number is as the core sees it at the time of the decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// Jobs visible + in flight + delayed, or the uploads that wait in this process if they are more.
    pub demand: u64,
    /// The lowest demand of the last `fleet.up_delay`.
    pub low_demand: u64,
    /// The highest demand of the last `fleet.down_delay`.
    pub high_demand: u64,
    /// The target before this decision.
    pub previous: usize,
    /// The most instances there may be.
    pub cap: usize,
    /// Instances that serve.
    pub running: usize,
    /// Instances on their way (pending, or asked for and not seen): how long until they serve, and how many. Only for the
    /// policy that plans with it.
    pub booting: Vec<(Time, usize)>,
    /// Stopped instances that can be started.
    pub startable: usize,
    pub learned: LearnedTimes,
    /// Time since the Unix epoch.
    pub clock: Time,
}

/// Times learned from what happened; until something has, the priors of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LearnedTimes {
    /// From the launch of a new instance to its readiness.
    pub boot_cold: Time,
    /// From the start of a stopped instance to its readiness.
    pub boot_warm: Time,
    /// What one job takes one worker thread.
    pub service: Time,
}

/// Instances wanted, never more than `known.cap`: the policy's answer, raised to the schedule's minimum.
pub fn target(known: &Known, rules: &FleetRules) -> usize {
    let wanted = match rules.policy {
        Policy::OnePerJob => one_per_job::target(known),
        Policy::Backlog => backlog::target(known, rules),
        Policy::Deadline => deadline::target(known, rules),
    };
    wanted.max(scheduled(rules, known.clock)).min(known.cap)
}

/// The schedule's minimum at `clock`, time since the Unix epoch.
pub fn scheduled(rules: &FleetRules, clock: Time) -> usize {
    schedule::least(&rules.schedule, clock)
}

/// `jobs` as instances, one a job.
fn one_each(jobs: u64) -> usize {
    usize::try_from(jobs).unwrap_or(usize::MAX)
}

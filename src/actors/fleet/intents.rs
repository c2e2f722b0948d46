//! Launches and starts that were asked for and have not been observed yet.

use std::collections::{BTreeMap, BTreeSet};

use super::Time;
use crate::cloud::{CloudError, InstanceId};

/// Pauses between tries of a call that failed: doubles from the first to the second.
const PAUSE: (Time, Time) = (Time::from_millis(500), Time::from_secs(60));

/// Exponential pause after `failures` failures in a row.
pub fn pause(failures: u32) -> Time {
    PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE.1)
}

/// One launch: a token, how many, and which of them have been seen.
#[derive(Clone, Debug)]
pub struct Launch {
    pub count: usize,
    pub asked: Time,
    /// The call is under way.
    pub calling: bool,
    /// When to call again with the same token, because the last answer was lost.
    pub retry_at: Option<Time>,
    pub failures: u32,
    /// Instances that the cloud says it made, without those observed already.
    pub unseen: BTreeSet<InstanceId>,
    /// The cloud has said what it made.
    pub answered: bool,
    /// Observed instances with this token.
    pub seen: BTreeSet<InstanceId>,
}

impl Launch {
    /// Instances that may exist or come to exist by this launch and are not observed.
    pub fn outstanding(&self) -> usize {
        if self.answered { self.unseen.len() } else { self.count.saturating_sub(self.seen.len()) }
    }
}

/// One start of a stopped instance.
#[derive(Clone, Debug)]
pub struct Start {
    pub asked: Time,
    pub calling: bool,
    pub retry_at: Option<Time>,
    pub failures: u32,
    /// Descriptions, asked after the start was answered, that still showed it stopped.
    pub still_stopped: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Intents {
    pub launches: BTreeMap<String, Launch>,
    pub starts: BTreeMap<InstanceId, Start>,
    /// Terminations asked for and not observed: when they were.
    pub terminations: BTreeMap<InstanceId, Time>,
}

impl Intents {
    pub fn launching(&self) -> usize {
        self.launches.values().map(Launch::outstanding).sum()
    }

    /// Drops launches of which everything has been seen.
    pub fn settle(&mut self) {
        self.launches.retain(|_, launch| launch.calling || launch.outstanding() > 0);
    }
}

/// Whether a failed call may have been applied all the same.
pub fn may_have_been_applied(error: &CloudError) -> bool {
    matches!(error, CloudError::Unavailable(_))
}

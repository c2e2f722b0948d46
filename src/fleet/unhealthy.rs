//! Instances that take too long: to boot, to stop, or to finish a job.
//!
//! Time alone proves nothing, because answers may be missing. An instance is given up on the evidence of a description (or
//! of a reading of the queue) that was called for after its time was over, so that nothing is given up while the cloud
//! does not answer.

use std::time::Duration;

use super::{
    action::Cause,
    demand::Demand,
    instances::{Instances, Key},
    removal::Removal,
    situation::Situation,
    timestamp::Timestamp,
    tracked::Role,
};

/// Returns the instances whose time is over.
pub(super) fn removals(situation: &Situation, demand: &Demand, instances: &Instances) -> Vec<Removal> {
    let timeout = situation.rules.boot_timeout;
    let overdue = |role, cause, what: &str| {
        let late = |(since, _): &(Timestamp, Key)| *since + timeout <= situation.described_as_of;
        let keys = instances.of(role).take_while(late).map(|(_, key)| key).collect();
        Removal { keys, cause, why: format!("{what} after {} s", timeout.as_secs()) }
    };
    let mut removals = vec![
        overdue(Role::Booting, Cause::BootTimeout, "not ready"),
        overdue(Role::Stopping, Cause::StopTimeout, "not stopped"),
    ];
    if let Some(silence) = Silence::new(situation, demand) {
        let dead = |(last_served, _): &(Timestamp, Key)| {
            (*last_served).max(silence.since) + silence.limit <= demand.depth_as_of()
        };
        let keys = instances.of(Role::Running).take_while(dead).map(|(_, key)| key).collect();
        let why = format!("nothing heard for {} s {}", silence.limit.as_secs(), silence.condition);
        removals.push(Removal { keys, cause: Cause::Silent, why });
    }
    removals
}

/// The condition under which a silent worker is dead.
struct Silence {
    /// Since when a living worker would have finished a job, or would have stopped itself.
    since: Timestamp,
    /// How long that may take.
    limit: Duration,
    condition: &'static str,
}

impl Silence {
    fn new(situation: &Situation, demand: &Demand) -> Option<Self> {
        let rules = situation.rules;
        let limit = rules.silent_timeout?;
        if let Some(since) = demand.backlog_since() {
            return Some(Self { since, limit, condition: "while jobs waited" });
        }
        let since = demand.empty_since()?;
        let limit = limit + rules.idle_stop.max(rules.billing_minimum);
        Some(Self { since, limit, condition: "while there was nothing to do" })
    }
}

//! Instances that take too long to boot, to stop, or to finish a job, and those whose worker does not respond.
//!
//! A timeout alone proves nothing, because answers may be missing. An instance is given up only on a description (or a
//! reading of the queue) that was requested after its timeout, so that nothing is given up while the cloud does not
//! answer.

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

/// Returns the instances whose timeout has passed.
pub(super) fn removals(situation: &Situation, demand: &Demand, instances: &Instances) -> Vec<Removal> {
    let timeout = situation.rules.boot_timeout;
    let overdue = |role, cause, what: &str| {
        let late = |(since, _): &(Timestamp, Key)| *since + timeout <= situation.described_as_of;
        let keys = instances.of(role).take_while(late).map(|(_, key)| key).collect();
        Removal::of(keys, cause, || format!("{what} after {} s", timeout.as_secs()))
    };
    let silent = Silence::new(situation, demand).and_then(|silence| {
        let dead = |(last_served, _): &(Timestamp, Key)| {
            (*last_served).max(silence.since) + silence.limit <= demand.depth_as_of()
        };
        let keys = instances.of(Role::Running).take_while(dead).map(|(_, key)| key).collect();
        Removal::of(keys, Cause::Silent, || format!("silent for {} s {}", silence.limit.as_secs(), silence.condition))
    });
    let hung = instances.of(Role::Unresponsive).map(|(_, key)| key).collect();
    [
        Removal::of(hung, Cause::Unresponsive, || "the worker does not respond".to_owned()),
        overdue(Role::Booting, Cause::BootTimeout, "not ready"),
        overdue(Role::Stopping, Cause::StopTimeout, "not stopped"),
        silent,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The condition under which a silent worker is dead.
struct Silence {
    /// The start of the time in which a live worker would have finished a job or stopped itself.
    since: Timestamp,
    /// The length of that time.
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
        let limit = limit.saturating_add(situation.idle_stop.max(rules.billing_minimum));
        Some(Self { since, limit, condition: "while the queue was empty" })
    }
}

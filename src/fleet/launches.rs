//! Launches that were asked for and have not been observed in full.

use std::collections::{BTreeMap, BTreeSet};

use super::{Time, instance::InstanceId};

/// One launch: how many were asked for under its token, and which of them have been seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Launch {
    pub count: usize,
    pub asked: Time,
    /// The call under way, and since when.
    pub calling: Option<Time>,
    /// When to call again with the same token, because the last answer was lost.
    pub retry_at: Option<Time>,
    pub failures: u32,
    /// The last time that an answer was lost: the launch may have been carried out.
    pub doubt: Option<Time>,
    /// The cloud refused a later call. Instances may still come of the one in doubt.
    pub abandoned: bool,
    /// When the cloud has said what it made.
    pub answered: Option<Time>,
    /// Of these, those not observed yet.
    pub unseen: BTreeSet<InstanceId>,
    /// Observed instances with this token.
    pub seen: BTreeSet<InstanceId>,
}

impl Launch {
    /// Instances that may exist or come to exist by this launch and are not observed.
    pub fn outstanding(&self) -> usize {
        if self.answered.is_some() { self.unseen.len() } else { self.count.saturating_sub(self.seen.len()) }
    }

    pub fn saw(&mut self, id: &InstanceId) {
        self.unseen.remove(id);
        self.seen.insert(id.clone());
    }

    pub fn answer(&mut self, now: Time, ids: Vec<InstanceId>) {
        self.answered = Some(now);
        (self.calling, self.retry_at) = (None, None);
        self.unseen = ids.into_iter().filter(|id| !self.seen.contains(id)).collect();
    }
}

/// By token.
#[derive(Clone, Debug, Default)]
pub(super) struct Launches(pub BTreeMap<String, Launch>);

impl Launches {
    pub fn outstanding(&self) -> usize {
        self.0.values().map(Launch::outstanding).sum()
    }

    /// Forgets launches of which everything has been seen.
    pub fn settle(&mut self) {
        self.0.retain(|_, launch| launch.outstanding() > 0);
    }
}

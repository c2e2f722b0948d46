//! Launching new instances.
//!
//! A launch is an uncertain operation until its instances have been observed, or until it is certain that none will be.
//! In the meantime it holds capacity: it counts against the cap.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    action::Action,
    calls::{CALL_TIMEOUT, INSTANCES_PER_CALL, TokenBucket, backoff, may_have_been_applied},
    decision_log::{Change, DecisionLog},
    explain::{Inputs, Kind},
    instance::InstanceId,
    situation::Situation,
    step::Step,
    timestamp::Timestamp,
};
use crate::{CloudError, CloudResult};

/// How long a learned quota is trusted before the configured cap is tried again.
const QUOTA_MEMORY: Duration = Duration::from_secs(300);

/// One launch that has not been fully observed.
#[derive(Clone, Debug, Default)]
struct Launch {
    /// Number of instances requested.
    count: usize,
    requested: Timestamp,
    /// When the call under way was made.
    called: Option<Timestamp>,
    /// When to call again with the same token, because the last answer was lost or the call was throttled.
    retry_at: Option<Timestamp>,
    /// When an answer was last lost: the launch may have been carried out.
    uncertain_since: Option<Timestamp>,
    /// The cloud refused a later call. The uncertain call may still have launched instances.
    refused: bool,
    /// When the cloud returned the launched instances.
    accepted: Option<Timestamp>,
    /// The returned instances that have not been observed yet.
    unseen: BTreeSet<InstanceId>,
    /// Observed instances with this token.
    seen: BTreeSet<InstanceId>,
}

impl Launch {
    /// Returns the number of instances that this launch may have created or may still create, except those observed.
    fn outstanding(&self) -> usize {
        if self.accepted.is_some() { self.unseen.len() } else { self.count.saturating_sub(self.seen.len()) }
    }

    fn observe(&mut self, id: &InstanceId) {
        self.unseen.remove(id);
        self.seen.insert(id.clone());
    }

    fn accept(&mut self, now: Timestamp, ids: Vec<InstanceId>) {
        self.accepted = Some(now);
        (self.called, self.retry_at) = (None, None);
        self.unseen = ids.into_iter().filter(|id| !self.seen.contains(id)).collect();
    }
}

/// A cap learned from a refused launch.
#[derive(Clone, Copy, Debug)]
struct Quota {
    cap: usize,
    /// The smallest number of live instances that was refused.
    refused: usize,
    believed_until: Timestamp,
}

impl Quota {
    /// Raises the cap when the cloud has accepted this number of live instances: halfway to what it refused, as it was lowered,
    /// until the two differ by one.
    fn accepted(&mut self, live: usize) {
        self.cap = self.cap.max(live + self.refused.saturating_sub(live) / 2);
    }
}

/// What the launches need to know from the other phases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shortage {
    /// Instances wanted, with those that take the place of others.
    pub wanted: usize,
    /// Number of instances to launch.
    pub missing: usize,
    /// Instances of other phases that are serving or soon will be.
    pub serving: usize,
    /// Instances of other phases that count against the cap.
    pub live: usize,
    /// No launch before this time, because of the sweep's cooldown.
    pub not_before: Timestamp,
}

/// Launches instances, and tracks each launch until it is no longer uncertain.
#[derive(Clone, Debug)]
pub(super) struct Launches {
    /// The controller epoch, which makes the tokens differ from those of other controllers.
    epoch: u64,
    sequence: u64,
    by_token: BTreeMap<String, Launch>,
    bucket: TokenBucket,
    /// No new launch before this time: cooldown, and backoff after failures.
    not_before: Timestamp,
    /// Consecutive failed calls.
    failures: u32,
    quota: Option<Quota>,
}

impl Launches {
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            sequence: 0,
            by_token: BTreeMap::new(),
            bucket: TokenBucket::default(),
            not_before: Timestamp::START,
            failures: 0,
            quota: None,
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the number of instances that were requested and have not been observed yet.
    pub fn outstanding(&self) -> usize {
        self.by_token.values().map(Launch::outstanding).sum()
    }

    /// Returns when the next new launch may be made, after a pause or a cooldown.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Iterates over the launches: when each was requested, and how many of its instances have not been observed.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, usize)> {
        self.by_token.values().map(|launch| (launch.requested, launch.outstanding()))
    }

    /// Returns the maximum number of instances: `configured`, or a lower cap learned from a refused launch.
    pub fn cap(&self, configured: usize, now: Timestamp) -> usize {
        let quota = self.quota.filter(|quota| quota.believed_until > now);
        quota.map_or(configured, |quota| quota.cap.min(configured))
    }

    /// Records that an instance with `token` was observed. Returns when it was requested, if by this controller.
    pub fn observe(&mut self, token: &str, id: &InstanceId) -> Option<Timestamp> {
        let launch = self.by_token.get_mut(token)?;
        launch.observe(id);
        Some(launch.requested)
    }

    /// Records that a description requested at `as_of` has been observed. A launch that was refused after an uncertain
    /// call has failed if the cloud has had enough time to show its instances.
    pub fn observed(&mut self, as_of: Timestamp, describe_lag: Duration) {
        let visible_after = CALL_TIMEOUT.max(describe_lag);
        let failed =
            |launch: &Launch| launch.refused && launch.uncertain_since.is_none_or(|at| at + visible_after <= as_of);
        self.by_token.retain(|_, launch| !failed(launch) && launch.outstanding() > 0);
    }

    /// Gives up launches that the cloud accepted `timeout` before `as_of` and whose instances were not observed, and
    /// returns these instances.
    pub fn give_up(&mut self, as_of: Timestamp, timeout: Duration) -> Vec<InstanceId> {
        let mut orphaned = Vec::new();
        self.by_token.retain(|_, launch| {
            let overdue = launch.accepted.is_some_and(|at| at + timeout <= as_of);
            if overdue {
                orphaned.extend(std::mem::take(&mut launch.unseen));
            }
            !overdue
        });
        orphaned
    }

    /// Records the answer to a launch. `live` is the number of instances of other phases that count against the cap.
    pub fn answered(
        &mut self,
        now: Timestamp,
        token: &str,
        result: CloudResult<Vec<InstanceId>>,
        live: usize,
        log: &mut DecisionLog,
    ) {
        match &result {
            Ok(ids) => log.launched(token, ids),
            Err(error) => log.error(now, format!("launch failed: {error}")),
        }
        let Some(launch) = self.by_token.get_mut(token) else { return };
        launch.called = None;
        match result {
            Ok(ids) => {
                self.failures = 0;
                if ids.len() < launch.count {
                    log.note(now, "launch", format!("{} of {} instances were launched", ids.len(), launch.count));
                    self.not_before = self.not_before.max(now + backoff(1));
                }
                launch.accept(now, ids);
                if launch.outstanding() == 0 {
                    self.by_token.remove(token);
                }
                let live = live + self.outstanding();
                if let Some(quota) = &mut self.quota {
                    quota.accepted(live);
                }
            }
            Err(error) => {
                self.failures += 1;
                let retry_at = now + backoff(self.failures);
                let (count, mut is_over) = (launch.count, false);
                self.not_before = self.not_before.max(retry_at);
                if may_have_been_applied(&error) {
                    (launch.uncertain_since, launch.retry_at) = (Some(now), Some(retry_at));
                } else if error == CloudError::Throttled {
                    launch.retry_at = Some(retry_at);
                } else if launch.uncertain_since.is_some() {
                    launch.refused = true;
                } else {
                    is_over = true;
                    self.by_token.remove(token);
                }
                if let CloudError::Quota(_) = error {
                    // EC2 refuses a launch as a whole that exceeds a quota: half of it may fit. At least one, because
                    // others may have used up the quota: then only retrying helps.
                    let (live, more) = (live + self.outstanding(), if is_over { count } else { 0 });
                    let (cap, believed_until) = ((live + more / 2).max(1), now + QUOTA_MEMORY);
                    self.quota = Some(Quota { cap, refused: live + more, believed_until });
                }
            }
        }
    }

    /// Retries launches whose answers were lost, and launches the missing instances, within the cap.
    pub fn decide(&mut self, situation: &Situation, shortage: Shortage, inputs: Inputs, log: &mut DecisionLog) -> Step {
        let now = situation.now;
        let not_before = self.not_before.max(shortage.not_before);
        let mut step = Step::default();
        self.retry(now, &mut step);
        // The rest follows with the next call.
        let count =
            shortage.missing.min(inputs.cap.saturating_sub(shortage.live + self.outstanding())).min(INSTANCES_PER_CALL);
        // Until descriptions show everything that earlier epochs requested, instances of theirs may still appear.
        if count > 0 && not_before <= now && self.bucket.ready(now) && situation.shows_earlier_epochs {
            step.actions.push(self.launch(now, count, inputs, log));
            self.not_before = now + situation.rules.launch_cooldown;
        }
        for launch in self.by_token.values() {
            if let Some(at) = launch.retry_at {
                step.wake(now, at.max(self.bucket.next()));
            }
            if let Some(called) = launch.called {
                step.wake(now, called + CALL_TIMEOUT);
            }
        }
        if let Some(quota) = &self.quota {
            step.wake(now, quota.believed_until);
        }
        if shortage.wanted > shortage.serving + self.outstanding() {
            step.wake(now, self.not_before.max(shortage.not_before).max(self.bucket.next()));
        }
        step
    }

    fn launch(&mut self, now: Timestamp, count: usize, inputs: Inputs, log: &mut DecisionLog) -> Action {
        self.sequence += 1;
        let token = format!("{:x}-{:x}", self.epoch, self.sequence);
        let reason = format!("launch {count}: {}", inputs.summary());
        let change = Change { kind: Kind::Launch, instances: Vec::new(), count, reason, token: Some(token.clone()) };
        log.explain(now, change, inputs);
        let launch = Launch { count, requested: now, called: Some(now), ..Launch::default() };
        self.by_token.insert(token.clone(), launch);
        self.bucket.take(now);
        Action::Launch { token, count }
    }

    /// Calls again with the same token, so that no instance is launched twice.
    fn retry(&mut self, now: Timestamp, step: &mut Step) {
        for (token, launch) in &mut self.by_token {
            if launch.called.is_some_and(|called| called + CALL_TIMEOUT <= now) {
                (launch.called, launch.uncertain_since, launch.retry_at) = (None, Some(now), Some(now));
            }
            if launch.retry_at.is_some_and(|at| at <= now) && self.bucket.ready(now) {
                self.bucket.take(now);
                (launch.retry_at, launch.called) = (None, Some(now));
                step.actions.push(Action::Launch { token: token.clone(), count: launch.count });
            }
        }
    }
}

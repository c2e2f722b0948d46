//! Launches and starts that the cloud refuses: they are counted, so that a fleet that gets no instance is shown as degraded.
//!
//! A refusal costs nothing, and the usual pauses of failed calls limit how often it is asked for, so unlike failed boots
//! this changes no decision.

use super::{
    calls::may_have_been_applied,
    cloud_error::CloudError,
    decision_log::{Change, DecisionLog},
    explain::{Inputs, Kind},
    timestamp::Timestamp,
};

/// Number of consecutive refusals from which a fleet without an instance is degraded. With the pauses of failed calls, this
/// takes eight seconds: for less long, capacity may be missing in a healthy cluster too.
const REFUSED_AFTER: usize = 5;

/// Why, and since when, the fleet gets no instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When it began to count as degraded.
    pub since: Timestamp,
    /// Number of launches and starts in a row that the cloud refused.
    pub requests: usize,
    /// The next one is not requested before this time. `None` while one is under way.
    pub next_attempt: Option<Timestamp>,
    /// How the last one was refused.
    pub reason: String,
}

/// What is asked of the cloud at the end of a step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    /// Number of instances that are running or booting.
    pub up: usize,
    /// Number of instances that are missing, with those that are requested.
    pub missing: usize,
}

/// Counts consecutive refusals.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    consecutive: usize,
    degraded_since: Option<Timestamp>,
    reason: String,
}

impl Refusals {
    /// Returns the state, if the fleet is degraded.
    pub fn refused(&self, next_attempt: impl FnOnce() -> Option<Timestamp>) -> Option<Refused> {
        Some(Refused {
            since: self.degraded_since?,
            requests: self.consecutive,
            next_attempt: next_attempt(),
            reason: self.reason.clone(),
        })
    }

    /// Records that a launch or start of `count` instances was refused.
    pub fn add(&mut self, error: &CloudError, count: usize) {
        let is_definite = match error {
            CloudError::Throttled => false,
            // They say something about one instance, not about what the cloud has.
            CloudError::Conflict(_) | CloudError::NotFound(_) => false,
            // Fewer are requested next.
            CloudError::Quota(_) => count == 1,
            error => !may_have_been_applied(error),
        };
        if is_definite && count > 0 {
            self.consecutive += 1;
            self.reason = error.to_string();
        }
    }

    /// Returns whether any request has been refused since the last one that was accepted.
    pub fn any(&self) -> bool {
        self.consecutive > 0
    }

    /// Records that the cloud has accepted a launch or start.
    pub fn accepted(&mut self, now: Timestamp, inputs: &Inputs, log: &mut DecisionLog) {
        self.end(now, "the cloud has accepted a request for instances", inputs, log);
    }

    /// Returns whether [`Refusals::judge`] would change anything.
    pub fn is_changed_by(&self, need: Need) -> bool {
        self.any() && (need.missing == 0 || self.begins(need) || self.has_one_again(need))
    }

    /// Returns whether a fleet that was degraded has an instance: of a launch whose answer was lost, for example.
    fn has_one_again(&self, need: Need) -> bool {
        need.up > 0 && self.degraded_since.is_some()
    }

    fn begins(&self, need: Need) -> bool {
        need.up == 0 && self.consecutive >= REFUSED_AFTER && self.degraded_since.is_none()
    }

    /// Begins or ends the degraded state at the end of a step.
    pub fn judge(&mut self, now: Timestamp, need: Need, inputs: &Inputs, log: &mut DecisionLog) {
        if need.missing == 0 {
            self.end(now, "no instance is missing", inputs, log);
        } else if self.has_one_again(need) {
            self.end(now, "the fleet has an instance", inputs, log);
        } else if self.begins(need) {
            let (requests, reason) = (self.consecutive, &self.reason);
            let reason = format!(
                "degraded: {requests} requests for instances in a row were refused, and there is none; the last because \
                 {reason}"
            );
            log.explain(now, change(Kind::Degraded, reason), inputs.clone());
            self.degraded_since = Some(now);
        }
    }

    fn end(&mut self, now: Timestamp, why: &str, inputs: &Inputs, log: &mut DecisionLog) {
        let before = std::mem::take(self);
        if before.degraded_since.is_some() {
            let reason = format!("{why}: no longer degraded, after {} refused requests", before.consecutive);
            log.explain(now, change(Kind::Recovered, reason), inputs.clone());
        }
    }
}

fn change(kind: Kind, reason: String) -> Change {
    Change { kind, instances: Vec::new(), count: 0, reason, token: None }
}

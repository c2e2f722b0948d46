//! Limits on calls to the cloud, however many events arrive.

use std::time::Duration;

use super::timestamp::Timestamp;
use crate::CloudError;

/// Shortest time between two reads of the same kind.
const MIN_READ_INTERVAL: Duration = Duration::from_millis(50);
/// A call without an answer for this long counts as lost.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Shortest and longest pause after a failed call.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// Burst of calls of one kind, and the time after which one more is allowed: EC2's limits for RunInstances and
/// StartInstances ("Request throttling for the Amazon EC2 API": a bucket of 5, refilled at 2 per second).
const BURST: u32 = 5;
const REFILL: Duration = Duration::from_millis(500);

/// Maximum number of instances per start or termination, so that no step takes long: EC2 recommends small batches and
/// accepts at most 1,000 ("StartInstances", "TerminateInstances").
pub const INSTANCES_PER_CALL: usize = 1_000;

/// Returns the exponential pause after `failures` consecutive failures.
pub(super) fn backoff(failures: u32) -> Duration {
    doubled(BACKOFF, failures)
}

/// Returns the `n`th of pauses that double from the shortest to the longest.
pub(super) fn doubled((shortest, longest): (Duration, Duration), n: u32) -> Duration {
    shortest.saturating_mul(1 << n.saturating_sub(1).min(16)).min(longest)
}

/// Returns whether a failed call may nevertheless have been applied.
pub(super) fn may_have_been_applied(error: &CloudError) -> bool {
    matches!(error, CloudError::Unavailable(_))
}

/// A periodic read, with at most one call under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeriodicRead {
    /// When the call under way was made.
    called: Option<Timestamp>,
    due: Timestamp,
    last: Option<Timestamp>,
}

impl PeriodicRead {
    /// Returns whether the call is due.
    pub fn ready(&self, now: Timestamp) -> bool {
        self.next() <= now
    }

    /// Records that the call is made now; the next one is due `every` later.
    pub fn call(&mut self, now: Timestamp, every: Duration) {
        *self = Self { called: Some(now), due: now + every, last: Some(now) };
    }

    /// Makes the next call due now.
    pub fn hurry(&mut self, now: Timestamp) {
        self.due = now;
    }

    /// Records that the call under way has ended, and returns when it was made.
    pub fn answered(&mut self) -> Option<Timestamp> {
        self.called.take()
    }

    /// Returns when the next call may be made.
    pub fn next(&self) -> Timestamp {
        let free = self.called.map_or(Timestamp::START, |called| called + CALL_TIMEOUT);
        self.due.max(free).max(self.last.map_or(Timestamp::START, |last| last + MIN_READ_INTERVAL))
    }
}

/// A token bucket for calls that change something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenBucket {
    /// When the bucket will be full again: each call moves it by [`REFILL`].
    full_at: Timestamp,
}

impl TokenBucket {
    /// Returns when the next call may be made.
    pub fn next(&self) -> Timestamp {
        self.full_at.saturating_sub(REFILL * (BURST - 1))
    }

    pub fn ready(&self, now: Timestamp) -> bool {
        self.next() <= now
    }

    pub fn take(&mut self, now: Timestamp) {
        self.full_at = self.full_at.max(now) + REFILL;
    }
}

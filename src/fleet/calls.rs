//! When calls to the cloud may be made, whatever happens.

use super::Time;
use crate::error::CloudError;

/// Shortest time between two reads of one kind.
const GAP: Time = Time::from_millis(50);
/// A call that is not answered within this is taken for lost.
pub(super) const LOST: Time = Time::from_secs(30);
/// Pauses between tries of a call that failed: doubles from the first to the second.
const PAUSE: (Time, Time) = (Time::from_millis(500), Time::from_secs(60));
/// Calls of one kind that may be made at once, and then one each so often: EC2's limits of RunInstances and
/// StartInstances ("Request throttling for the Amazon EC2 API": bucket of 5, 2 a second).
const BURST: u32 = 5;
const REFILL: Time = Time::from_millis(500);

/// Most instances of one call to start or to terminate, so that no step takes long: EC2 advises small batches, and takes no
/// more than 1,000 ("StartInstances", "TerminateInstances").
pub(super) const BATCH: usize = 1_000;

/// Exponential pause after `failures` failures in a row.
pub(super) fn pause(failures: u32) -> Time {
    PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(PAUSE.1)
}

/// Whether a failed call may have been applied all the same.
pub(super) fn may_have_been_applied(error: &CloudError) -> bool {
    matches!(error, CloudError::Unavailable(_))
}

/// A read of which at most one is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Read {
    pub asked: Option<Time>,
    pub due: Time,
    pub last: Option<Time>,
}

impl Read {
    /// Whether to ask now.
    pub fn ready(&self, now: Time) -> bool {
        self.deadline() <= now
    }

    pub fn ask(&mut self, now: Time, every: Time) {
        *self = Self { asked: Some(now), due: now + every, last: Some(now) };
    }

    /// When [`Self::ready`] will be true if nothing else happens.
    pub fn deadline(&self) -> Time {
        let free = self.asked.map_or(Time::ZERO, |asked| asked + LOST);
        self.due.max(free).max(self.last.map_or(Time::ZERO, |last| last + GAP))
    }
}

/// A token bucket for calls that change something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TokenBucket {
    /// When the bucket will be full again: each call moves it by [`REFILL`].
    full_at: Time,
}

impl TokenBucket {
    /// When the next call may be made.
    pub fn next(&self) -> Time {
        self.full_at.saturating_sub(REFILL * (BURST - 1))
    }

    pub fn ready(&self, now: Time) -> bool {
        self.next() <= now
    }

    pub fn take(&mut self, now: Time) {
        self.full_at = self.full_at.max(now) + REFILL;
    }
}

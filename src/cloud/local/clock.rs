//! The clock of the embedded queues.

use tokio::time::Instant;

use crate::clock::now_ms;

/// A clock that never goes backwards, in milliseconds since the epoch, so that delays survive a restart.
pub(super) struct Clock {
    start: Instant,
    /// The time at which the clock was started.
    pub(super) epoch_ms: u64,
}

impl Clock {
    /// Starts a clock at the time of the system clock.
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), epoch_ms: now_ms() }
    }

    /// Returns the time.
    pub(super) fn now(&self) -> u64 {
        self.epoch_ms + self.start.elapsed().as_millis() as u64
    }
}

//! The clock of the embedded queues.

use tokio::time::Instant;

use crate::{clock::now_ms, cloud::queue_limits::MAX_DELAY};

/// A clock that never goes backwards, in milliseconds since the epoch, so that delays survive a restart. Once started, it
/// does not follow changes of the system clock.
pub(super) struct Clock {
    start: Instant,
    epoch_ms: u64,
    /// A number that no other clock has.
    pub(super) id: u64,
}

impl Clock {
    /// Starts a clock at the time of the system clock.
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), epoch_ms: now_ms(), id: rand::random() }
    }

    /// Returns the time.
    pub(super) fn now(&self) -> u64 {
        self.epoch_ms + self.start.elapsed().as_millis() as u64
    }
}

/// Returns from when on a message of an earlier process is visible. `written` is what that process wrote, by its own
/// clock.
///
/// A time that is further ahead than the longest delay shows that the system clock has been set back since, and would
/// hide the message for the difference: it counts as now. Messages of FIFO queues have no delay.
pub(super) fn visible_at(written: u64, now: u64, fifo: bool) -> u64 {
    let longest = if fifo { 0 } else { MAX_DELAY.as_millis() as u64 };
    if written.saturating_sub(now) > longest { now } else { written }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const LONGEST: u64 = MAX_DELAY.as_millis() as u64;

    proptest! {
        #[test]
        fn no_change_of_the_system_clock_hides_a_message_for_longer_than_the_longest_delay(
            sent in 100 * HOUR..1_000_000 * HOUR,
            delay in 0..=LONGEST,
            change in -10 * HOUR as i64..=10 * HOUR as i64,
            fifo: bool,
        ) {
            let written = if fifo { sent } else { sent + delay };
            let now = sent.saturating_add_signed(change);
            let hidden = visible_at(written, now, fifo).saturating_sub(now);
            let longest = if fifo { 0 } else { LONGEST };
            prop_assert!(hidden <= longest);
            if change < -(LONGEST as i64) || change >= delay as i64 {
                prop_assert_eq!(hidden, 0, "the clock was set back, or the delay has passed");
            } else if change >= 0 && !fifo {
                prop_assert_eq!(hidden, delay - change as u64, "the rest of the delay");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_clock_does_not_follow_the_system_clock() {
        let clock = Clock::new();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now() - before, 60_000, "the system clock has not moved");
        assert_ne!(clock.id, Clock::new().id, "even if both start at the same time");
    }
}

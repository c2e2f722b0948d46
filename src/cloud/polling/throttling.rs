//! What a poller does about a queue that refuses calls because there are too many: messages wait for each other, so that
//! each call carries more of them. Pure.
//!
//! SQS limits the calls to a FIFO queue, not its messages. Many workers that each make a call per job reach the limit
//! together, and each notices by the calls that it is refused.

use std::time::Duration;

use tokio::time::Instant;

use crate::cloud::CloudError;

/// The window after the first refused call. Each further one doubles it.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest window.
const LONGEST: Duration = Duration::from_secs(1);
/// After this time without a refused call, the window is halved.
const RELAX: Duration = Duration::from_secs(10);

/// How long messages wait for each other.
#[derive(Clone, Debug)]
pub(crate) struct BatchingWindow {
    window: Duration,
    longest: Duration,
    /// The last refused call.
    refused: Option<Instant>,
}

impl BatchingWindow {
    /// Creates a window for a queue with this visibility timeout. It stays closed until a call is refused.
    pub(crate) fn new(visibility: Duration) -> Self {
        Self { window: Duration::ZERO, longest: LONGEST.min(visibility / 10), refused: None }
    }

    /// Records a refused call.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.window = (self.at(now) * 2).max(SHORTEST).min(self.longest);
        self.refused = Some(now);
    }

    /// Returns the window.
    pub(crate) fn at(&self, now: Instant) -> Duration {
        let Some(refused) = self.refused else { return Duration::ZERO };
        let halvings = now.saturating_duration_since(refused).as_nanos() / RELAX.as_nanos();
        let window = self.window / 1_u32.checked_shl(halvings.min(31) as u32).unwrap_or(u32::MAX);
        if window < SHORTEST / 2 { Duration::ZERO } else { window }
    }
}

/// Returns whether a message whose deletion failed is to be deleted again. After `until`, it may have become visible.
pub(crate) fn retry_delete(error: &CloudError, until: Instant, now: Instant) -> bool {
    *error == CloudError::Throttled && now < until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_doubles_with_each_refused_call_and_closes_when_there_are_none() {
        let (mut window, start) = (BatchingWindow::new(Duration::from_secs(30)), Instant::now());
        assert_eq!(window.at(start), Duration::ZERO);
        let milliseconds: Vec<u128> = (0..7)
            .map(|_| {
                window.refused(start);
                window.at(start).as_millis()
            })
            .collect();
        assert_eq!(milliseconds, [50, 100, 200, 400, 800, 1_000, 1_000]);
        let later = |n: u32| window.at(start + RELAX * n).as_millis();
        assert_eq!([0, 1, 2, 5, 6, 1_000].map(later), [1_000, 500, 250, 31, 0, 0]);
    }

    #[test]
    fn the_window_is_short_compared_to_the_visibility_timeout() {
        let (mut window, now) = (BatchingWindow::new(Duration::from_secs(1)), Instant::now());
        (0..9).for_each(|_| window.refused(now));
        assert_eq!(window.at(now), Duration::from_millis(100));
    }

    #[test]
    fn only_refused_deletions_are_repeated_and_not_for_ever() {
        let now = Instant::now();
        let later = now + RELAX;
        assert!(retry_delete(&CloudError::Throttled, later, now));
        assert!(!retry_delete(&CloudError::Throttled, now, later));
        assert!(!retry_delete(&CloudError::Conflict("expired".into()), later, now));
    }
}

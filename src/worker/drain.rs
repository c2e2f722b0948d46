//! How long a worker that ends may take to finish its jobs.

use std::time::Duration;

use tokio::time::Instant;

/// How long before it reclaims a spot instance EC2 says so ("Spot Instance interruption notices").
const NOTICE: Duration = Duration::from_secs(120);
/// The part of that in which unfinished jobs are returned to the queue and the instance is ended.
const MARGIN: Duration = Duration::from_secs(20);
/// Differences up to this are those of the two clocks and of the time that a reading takes.
const SAME: Duration = Duration::from_secs(1);

/// Returns how long a drain may last after a notice that is read while the system clock shows `now_ms`. `reclaimed_ms` is
/// when the instance is reclaimed, if the notice says so. Both are in milliseconds since the Unix epoch.
///
/// The instance still runs, and a notice is not given earlier than [`NOTICE`]: if the time has passed, or is further away
/// than that, the system clock is wrong. The notice then counts from its reading.
fn after_notice(reclaimed_ms: Option<u64>, now_ms: u64) -> Duration {
    let left = reclaimed_ms.and_then(|at| at.checked_sub(now_ms)).map(Duration::from_millis);
    left.filter(|left| *left <= NOTICE).unwrap_or(NOTICE).saturating_sub(MARGIN)
}

/// Returns until when a drain may last that was to last until `planned`, after a notice that is read at `now`, while the
/// system clock shows `now_ms`. `reclaimed_ms` is when the instance is reclaimed, if the notice says so; both are in
/// milliseconds since the Unix epoch. A notice that is read repeatedly never makes a drain longer.
pub fn limit(planned: Instant, reclaimed_ms: Option<u64>, now: Instant, now_ms: u64) -> Instant {
    let limit = now + after_notice(reclaimed_ms, now_ms);
    if limit + SAME < planned { limit } else { planned }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;
    const HOUR: Duration = Duration::from_secs(3_600);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_drain_ends_before_the_time_of_the_notice() {
        let at = |seconds: u64| Some(NOW_MS + seconds * 1_000);
        assert_eq!(after_notice(at(120), NOW_MS), seconds(100));
        assert_eq!(after_notice(at(70), NOW_MS), seconds(50), "it was read late");
        assert_eq!(after_notice(at(20), NOW_MS), Duration::ZERO);
        assert_eq!(after_notice(at(0), NOW_MS), Duration::ZERO);
        assert_eq!(after_notice(None, NOW_MS), seconds(100));
    }

    #[test]
    fn a_time_that_cannot_be_right_counts_from_the_reading() {
        for at in [0, NOW_MS - 3_600_000, NOW_MS - 1, NOW_MS + 120_001, NOW_MS + 3_600_000, u64::MAX] {
            assert_eq!(after_notice(Some(at), NOW_MS), seconds(100), "{at}");
        }
    }

    #[test]
    fn a_notice_shortens_a_drain_and_does_not_prolong_it() {
        let (now, at) = (Instant::now(), Some(NOW_MS + 60_000));
        assert_eq!(limit(now + HOUR, at, now, NOW_MS), now + seconds(40));
        assert_eq!(limit(now + seconds(30), at, now, NOW_MS), now + seconds(30));
        // Five seconds later, it is the same notice.
        let (planned, later) = (now + seconds(40), now + seconds(5));
        for skew in [0, 3, 900] {
            assert_eq!(limit(planned, at, later, NOW_MS + 5_000 + skew), planned);
        }
    }

    proptest! {
        /// However often the notice is read, and whatever the clock shows: the drain ends in time, at the latest as if the
        /// notice had no time, and no jobs are given up early because a clock is slow or has been set.
        #[test]
        fn a_drain_is_limited_whatever_the_clock_shows(
            drain_ms in 0u64..7_200_000,
            notice_ms in 0u64..=120_000,
            readings in prop::collection::vec((1u64..10_000, prop_oneof![Just(0), -300_000i64..300_000]), 1..20),
        ) {
            let start = Instant::now();
            let planned = start + Duration::from_millis(drain_ms);
            let (mut until, mut elapsed_ms, mut expected) = (planned, 0, planned);
            for (pause_ms, skew_ms) in readings {
                elapsed_ms += pause_ms;
                let now = start + Duration::from_millis(elapsed_ms);
                let shown_ms = (NOW_MS + elapsed_ms).saturating_add_signed(skew_ms);
                let shorter = limit(until, Some(NOW_MS + notice_ms), now, shown_ms);
                prop_assert!(shorter <= until);
                prop_assert!(shorter <= now + NOTICE - MARGIN + SAME);
                prop_assert!(shorter >= until.min(now));
                until = shorter;
                if skew_ms == 0 && elapsed_ms <= notice_ms {
                    expected = expected.min(start + Duration::from_millis(notice_ms.saturating_sub(20_000)) + SAME);
                    prop_assert!(until <= expected.max(now + SAME));
                }
            }
        }
    }
}

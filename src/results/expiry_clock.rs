//! When the system clock may decide that results have expired: one wrong reading must not delete everything.
//!
//! Pure: times are passed in. A clock that is set wrong is usually corrected within minutes, so a reading counts only
//! once the clock has kept pace with the time that has passed since the reading before. The first reading of a process
//! has none before it, and counts if something was stored within the last day by that clock.

use std::time::Duration;

/// How far two readings may be apart from the time that has passed between them.
const TOLERANCE: Duration = Duration::from_secs(10 * 60);
/// How long before the first reading something must have been stored.
const RECENT: Duration = Duration::from_secs(24 * 3600);

/// Decides which readings count; see the [module](self).
#[derive(Debug, Default)]
pub struct ExpiryClock {
    last: Option<Reading>,
}

/// A reading of the system clock.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Time since the process began, which the system clock does not change.
    pub uptime: Duration,
}

impl ExpiryClock {
    /// Returns whether a reading counts. `newest_ms` is when the newest result was last changed (Unix epoch), if there
    /// is one.
    pub fn counts(&mut self, reading: Reading, newest_ms: Option<u64>) -> bool {
        match self.last.replace(reading) {
            Some(last) => {
                let passed = reading.uptime.saturating_sub(last.uptime).as_millis() as u64;
                (last.now_ms + passed).abs_diff(reading.now_ms) <= TOLERANCE.as_millis() as u64
            }
            None => newest_ms.is_none_or(|newest| newest.abs_diff(reading.now_ms) <= RECENT.as_millis() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: u64 = 24 * HOUR;
    const NOW: u64 = 20_000 * DAY;

    fn at(now_ms: u64, hours: u64) -> Reading {
        Reading { now_ms, uptime: Duration::from_millis(hours * HOUR) }
    }

    #[test]
    fn the_first_reading_counts_only_if_it_fits_what_is_stored() {
        assert!(ExpiryClock::default().counts(at(NOW, 0), Some(NOW - HOUR)));
        assert!(ExpiryClock::default().counts(at(NOW, 0), None), "there is nothing to delete");
        assert!(!ExpiryClock::default().counts(at(NOW + 3650 * DAY, 0), Some(NOW)), "ten years ahead");
        assert!(!ExpiryClock::default().counts(at(NOW - 3650 * DAY, 0), Some(NOW)), "ten years behind");
    }

    proptest! {
        #[test]
        fn a_jump_of_the_clock_makes_only_the_reading_after_it_not_count(
            size in HOUR as i64..100_000 * HOUR as i64,
            ahead: bool,
            before in 1..10_u64,
        ) {
            let jump = if ahead { size } else { -size };
            let mut clock = ExpiryClock::default();
            clock.counts(at(NOW, 0), Some(NOW));
            for hour in 1..=before {
                prop_assert!(clock.counts(at(NOW + hour * HOUR, hour), Some(NOW)));
            }
            let jumped = |hour: u64| at((NOW + hour * HOUR).saturating_add_signed(jump), hour);
            // What is stored meanwhile has the wrong time too, which proves nothing.
            let newest = Some(jumped(before + 1).now_ms);
            prop_assert!(!clock.counts(jumped(before + 1), newest));
            prop_assert!(clock.counts(jumped(before + 2), newest), "it stays where it is: it was corrected");
        }

        #[test]
        fn a_clock_that_runs_steadily_counts_from_the_second_reading_on(newest in 0..2 * NOW, step in 1..5_000_u64) {
            let mut clock = ExpiryClock::default();
            clock.counts(at(NOW, 0), Some(newest));
            prop_assert!(clock.counts(at(NOW + step * HOUR, step), Some(newest)));
        }
    }
}

//! The rule by which an idle worker stops its instance. Workers and the simulator apply it.

use std::time::Duration;

/// Thresholds of an idle worker.
#[derive(Clone, Copy, Debug)]
pub struct IdleStop {
    /// `worker.idle_stop`.
    pub idle: Duration,
    /// The minimum time billed per start (`fleet.billing_minimum`; EC2 bills the first 60 s of each start in full, and
    /// then by the second).
    pub billing_minimum: Duration,
}

impl IdleStop {
    /// Returns how much longer a worker that has been up for `up` and idle for `idle` waits for a job. At zero it
    /// stops.
    ///
    /// `max(idle limit − idle, billing minimum − up)`: a job that arrives within the billed minimum costs nothing, so a
    /// worker never stops within it, however short its idle limit is. After that each second costs, and only the idle
    /// limit counts.
    pub fn wait(&self, idle: Duration, up: Duration) -> Duration {
        self.idle.saturating_sub(idle).max(self.billing_minimum.saturating_sub(up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_worker_waits_for_its_idle_limit_and_through_the_billed_minimum() {
        let ec2 = IdleStop { idle: s(20), billing_minimum: s(60) };
        for (idle, up, wait) in [
            (0, 0, 60),   // fresh
            (25, 25, 35), // idle for long enough, but the minute is billed in full
            (19, 59, 1),
            (20, 60, 0),
            (0, 300, 20), // after the minute only the limit counts
            (5, 300, 15),
            (20, 300, 0),
            (3, 50, 17), // the limit ends after the minute
        ] {
            assert_eq!(ec2.wait(s(idle), s(up)), s(wait), "idle {idle}, up {up}");
        }
        let unbilled = IdleStop { idle: s(20), billing_minimum: s(0) };
        assert_eq!(unbilled.wait(s(0), s(0)), s(20));
        assert_eq!(unbilled.wait(s(20), s(20)), s(0));
    }

    proptest::proptest! {
        #[test]
        fn a_worker_stops_exactly_when_both_limits_are_over(idle in 0u64..400, up in 0u64..400, limit in 1u64..300, paid in 0u64..120) {
            let limits = IdleStop { idle: s(limit), billing_minimum: s(paid) };
            let wait = limits.wait(s(idle), s(up));
            proptest::prop_assert_eq!(wait.is_zero(), idle >= limit && up >= paid);
            // If no work comes, it stops after that wait and not a moment before.
            proptest::prop_assert!(limits.wait(s(idle) + wait, s(up) + wait).is_zero());
            if let Some(less) = wait.checked_sub(Duration::from_nanos(1)) {
                proptest::prop_assert!(!limits.wait(s(idle) + less, s(up) + less).is_zero());
            }
        }
    }
}

//! When each number of instances was last needed.

/// Records a number of instances over time, and answers when at least a given number was last needed. Only the latest
/// time of each number matters, so the record is a monotonic stack: later entries are smaller.
#[derive(Clone, Debug, Default)]
pub(super) struct Need {
    current: usize,
    /// Numbers that are no longer needed, each with the time at which that ended, in seconds: times rise, numbers fall.
    past: Vec<(f64, usize)>,
}

impl Need {
    /// Records that `needed` instances are needed from `now` on.
    pub fn set(&mut self, now: f64, needed: usize) {
        if needed == self.current {
            return;
        }
        let over = self.current.max(needed);
        while self.past.last().is_some_and(|(_, number)| *number <= over) {
            self.past.pop();
        }
        if needed < self.current {
            self.past.push((now, self.current));
        }
        self.current = needed;
    }

    /// Forgets what was needed only before `at`.
    pub fn forget_before(&mut self, at: f64) {
        let old = self.past.partition_point(|(ended, _)| *ended < at);
        self.past.drain(..old);
    }

    /// Returns the number needed now.
    pub fn current(&self) -> usize {
        self.current
    }

    /// Returns when at least `number` instances were last needed: `now` if they still are, and a time before every other
    /// if they never were.
    pub fn last(&self, now: f64, number: usize) -> f64 {
        if number <= self.current {
            return now;
        }
        let reaching = self.past.partition_point(|(_, n)| *n >= number);
        reaching.checked_sub(1).map_or(f64::NEG_INFINITY, |index| self.past[index].0)
    }

    /// Returns the most that were needed at any time of the last `window` seconds.
    pub fn within(&self, now: f64, window: f64) -> usize {
        let expired = self.past.partition_point(|(at, _)| *at + window < now);
        self.past.get(expired).map_or(self.current, |(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares with the definitions, over the whole history.
        #[test]
        fn the_stack_answers_as_the_whole_history_would(
            changes in prop::collection::vec((1u32..5, 0usize..9), 1..60),
            window in 0u32..30,
            number in 1usize..10,
        ) {
            let (mut need, mut now, mut history) = (Need::default(), 0.0, vec![(0.0, 0usize)]);
            for (wait, needed) in changes {
                now += f64::from(wait);
                need.set(now, needed);
                history.push((now, needed));
            }
            now += 1.0;
            let ends: Vec<f64> = history.iter().skip(1).map(|(at, _)| *at).chain([now]).collect();
            let held = || history.iter().zip(&ends).map(|((_, needed), end)| (*needed, *end));
            let within = held().filter(|(_, end)| *end + f64::from(window) >= now).map(|(n, _)| n).max();
            prop_assert_eq!(Some(need.within(now, f64::from(window))), within);
            let last = held().filter(|(n, _)| *n >= number).map(|(_, end)| end).fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(need.last(now, number), last);
        }
    }
}

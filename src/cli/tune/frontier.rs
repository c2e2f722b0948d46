//! Which configurations no other one beats, and which of them is wanted.

use serde::Serialize;

use super::trial::Trial;

/// What is wanted of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// The least cost and waiting, at this price per hour of a job's waiting.
    WaitPrice(f64),
    /// The least cost with a p99 of waiting of at most so many seconds.
    P99(f64),
}

impl Goal {
    /// Returns how far a configuration is from the goal: the less, the better. One that misses a p99 is worse than any
    /// that holds it, and one that leaves requests unanswered is worse than any other.
    pub fn score(self, trial: &Trial) -> f64 {
        match self {
            _ if !trial.answered => f64::INFINITY,
            Self::WaitPrice(price) => trial.cost + price * trial.waiting_hours,
            Self::P99(p99) if trial.p99_s <= p99 => trial.cost,
            Self::P99(p99) => 1e12 * (1.0 + trial.p99_s - p99),
        }
    }
}

/// Returns the trials than which no other is both cheaper and faster, by rising cost and falling p99.
pub fn frontier(trials: &[Trial]) -> Vec<Trial> {
    let mut all: Vec<&Trial> = trials.iter().filter(|trial| trial.answered).collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.p99_s.total_cmp(&b.p99_s)));
    let mut least = f64::INFINITY;
    let best = all.into_iter().filter(|trial| {
        let faster = trial.p99_s < least;
        least = least.min(trial.p99_s);
        faster
    });
    best.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(cost: f64, p99_s: f64, waiting_hours: f64) -> Trial {
        Trial { settings: [("n".to_owned(), cost.to_string())].into(), cost, p99_s, waiting_hours, answered: true }
    }

    #[test]
    fn the_frontier_has_what_no_other_trial_beats() {
        let mut lost = trial(0.1, 1.0, 0.0);
        lost.answered = false;
        let trials = [
            trial(3.0, 5.0, 0.0),
            trial(1.0, 20.0, 0.0),
            trial(2.0, 20.0, 0.0),
            trial(2.0, 8.0, 0.0),
            lost,
            trial(4.0, 5.5, 0.0),
        ];
        let points: Vec<_> = frontier(&trials).iter().map(|t| (t.cost, t.p99_s)).collect();
        assert_eq!(points, [(1.0, 20.0), (2.0, 8.0), (3.0, 5.0)]);
    }

    #[test]
    fn a_goal_prefers_what_it_is_for() {
        let (cheap, fast) = (trial(1.0, 30.0, 10.0), trial(2.0, 5.0, 1.0));
        let prefers_fast = |goal: Goal| goal.score(&fast) < goal.score(&cheap);
        assert!(!prefers_fast(Goal::WaitPrice(0.1)) && prefers_fast(Goal::WaitPrice(0.2)));
        assert!(!prefers_fast(Goal::P99(30.0)) && prefers_fast(Goal::P99(29.0)) && prefers_fast(Goal::P99(1.0)));
        let mut lost = fast.clone();
        lost.answered = false;
        assert!(Goal::P99(1.0).score(&lost) > Goal::P99(1.0).score(&cheap));
    }
}

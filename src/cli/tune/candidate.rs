//! The configurations that are tried: a policy, and the thresholds that matter to it.

use std::collections::BTreeMap;

use crate::settings::{Layers, Policy};

/// A threshold of a policy.
struct Threshold {
    key: &'static str,
    /// The values of the grid, in seconds or as a number.
    grid: &'static [f64],
    unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A whole number of seconds, written with its unit.
    Seconds,
    Count,
    /// An amount of money.
    Price,
}

const IDLE_STOP: Threshold =
    Threshold { key: "worker.idle_stop", grid: &[20.0, 60.0, 90.0, 150.0, 300.0, 900.0], unit: Unit::Seconds };
const KEEP_STOPPED: Threshold =
    Threshold { key: "fleet.keep_stopped", grid: &[0.0, 1.0, 2.0, 5.0, 10.0], unit: Unit::Count };
const TARGET_LATENCY: Threshold =
    Threshold { key: "fleet.target_latency", grid: &[1.0, 3.0, 8.0, 20.0, 50.0], unit: Unit::Seconds };
const JOBS_PER_INSTANCE: Threshold =
    Threshold { key: "fleet.jobs_per_instance", grid: &[1.0, 3.0, 10.0, 30.0, 100.0], unit: Unit::Count };
const WAIT_PRICE: Threshold =
    Threshold { key: "fleet.wait_price", grid: &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0], unit: Unit::Price };

/// The policies with their thresholds. Those that set their thresholds themselves have only their goal.
const POLICIES: [(&str, &[Threshold]); 4] = [
    ("deadline", &[TARGET_LATENCY, IDLE_STOP, KEEP_STOPPED]),
    ("backlog", &[JOBS_PER_INSTANCE, IDLE_STOP, KEEP_STOPPED]),
    ("one-per-job", &[IDLE_STOP, KEEP_STOPPED]),
    ("adaptive", &[WAIT_PRICE]),
];

/// A configuration to try.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    policy: usize,
    values: Vec<f64>,
}

impl Candidate {
    /// Returns the grid: every combination of every policy that there is.
    pub fn grid() -> Vec<Self> {
        let exists = |(_, (name, thresholds)): &(usize, &(&str, &[Threshold]))| {
            Policy::ALL.iter().any(|(known, _)| known == name) && thresholds.iter().all(|t| Layers::knows(t.key))
        };
        let policies = POLICIES.iter().enumerate().filter(exists);
        policies.flat_map(|(policy, (_, thresholds))| combinations(policy, thresholds)).collect()
    }

    /// Returns the configurations of the same policy in which one threshold is smaller or larger by about `factor`.
    pub fn neighbours(&self, factor: f64) -> Vec<Self> {
        let mut all = Vec::new();
        for (n, threshold) in POLICIES[self.policy].1.iter().enumerate() {
            for value in [self.values[n] / factor, self.values[n] * factor] {
                let mut next = self.clone();
                next.values[n] = threshold.unit.rounded(value, self.values[n]);
                if next.values[n] != self.values[n] {
                    all.push(next);
                }
            }
        }
        all
    }

    /// Returns the settings, as in a settings file.
    pub fn keys(&self) -> BTreeMap<String, String> {
        let (policy, thresholds) = POLICIES[self.policy];
        let mut keys = BTreeMap::from([("fleet.policy".to_owned(), format!("{policy:?}"))]);
        for (threshold, value) in thresholds.iter().zip(&self.values) {
            let text = match threshold.unit {
                Unit::Seconds => format!("\"{value}s\""),
                Unit::Count | Unit::Price => value.to_string(),
            };
            keys.insert(threshold.key.to_owned(), text);
        }
        keys
    }
}

fn combinations(policy: usize, thresholds: &[Threshold]) -> Vec<Candidate> {
    let mut all = vec![Candidate { policy, values: Vec::new() }];
    for threshold in thresholds {
        let extended = |candidate: &Candidate| {
            let values = |value: &f64| [&candidate.values[..], &[*value]].concat();
            let next = threshold.grid.iter().map(|value| Candidate { policy, values: values(value) });
            next.collect::<Vec<_>>()
        };
        all = all.iter().flat_map(extended).collect();
    }
    all
}

impl Unit {
    /// Returns a value that this unit has, near `value`, and other than `from` if a step of one is the least.
    fn rounded(self, value: f64, from: f64) -> f64 {
        match self {
            // From zero, no factor leads anywhere.
            Self::Count if from == 0.0 => f64::from(u8::from(value >= 0.0)),
            Self::Count if value > from => value.round().max(from + 1.0),
            Self::Count => value.round().min(from - 1.0),
            Self::Seconds => value.round().max(1.0),
            Self::Price => format!("{value:.2e}").parse().unwrap_or(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_has_every_policy_and_no_configuration_twice() {
        let grid = Candidate::grid();
        assert!(grid.len() >= 330, "{}", grid.len());
        for policy in ["deadline", "backlog", "one-per-job"] {
            assert!(grid.iter().any(|candidate| candidate.keys()["fleet.policy"] == format!("{policy:?}")), "{policy}");
        }
        let mut keys: Vec<_> = grid.iter().map(Candidate::keys).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), grid.len());
    }

    #[test]
    fn neighbours_differ_in_one_threshold_in_both_directions() {
        let candidate = Candidate { policy: 0, values: vec![8.0, 90.0, 0.0] };
        let values: Vec<_> = candidate.neighbours(1.5).into_iter().map(|next| next.values).collect();
        assert_eq!(
            values,
            [
                [5.0, 90.0, 0.0],
                [12.0, 90.0, 0.0],
                [8.0, 60.0, 0.0],
                [8.0, 135.0, 0.0],
                [8.0, 90.0, 1.0],
                [8.0, 90.0, 1.0]
            ]
        );
        let near = Candidate { policy: 2, values: vec![1.0, 2.0] };
        let values: Vec<_> = near.neighbours(1.1).into_iter().map(|next| next.values).collect();
        assert_eq!(values, [[1.0, 1.0], [1.0, 3.0]], "a count changes by one at least");
    }
}

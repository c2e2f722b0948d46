//! Capacity pools in order of preference, with a memory of those that had no capacity. Pure: time is passed in.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// An instance type in a subnet. `None` leaves the choice to the launch template, or to EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// Spot instances rather than on-demand ones.
    pub(super) spot: bool,
    pub(super) instance_type: Option<String>,
    /// Implies the availability zone.
    pub(super) subnet: Option<String>,
}

/// All pools in which instances may be launched.
#[derive(Debug)]
pub(super) struct Pools {
    all: Vec<Pool>,
    memory: Duration,
    empty_until: BTreeMap<usize, Instant>,
}

impl Pools {
    /// Creates the pools of each type in each subnet. They are ordered by type first and by subnet second; with `spot`,
    /// every spot pool precedes every on-demand pool. A pool without capacity is avoided for `memory`.
    pub(super) fn new(types: &[String], subnets: &[String], spot: bool, memory: Duration) -> Self {
        let optional = |list: &[String]| -> Vec<Option<String>> {
            if list.is_empty() { vec![None] } else { list.iter().cloned().map(Some).collect() }
        };
        let (types, subnets) = (optional(types), optional(subnets));
        let mut all = Vec::new();
        for spot in if spot { vec![true, false] } else { vec![false] } {
            for instance_type in &types {
                for subnet in &subnets {
                    all.push(Pool { spot, instance_type: instance_type.clone(), subnet: subnet.clone() });
                }
            }
        }
        Self { all, memory, empty_until: BTreeMap::new() }
    }

    /// Returns the pool with that index.
    pub(super) fn get(&self, at: usize) -> &Pool {
        &self.all[at]
    }

    /// Returns the index of the best pool that is not in `tried` and not known to be empty.
    ///
    /// If all are empty and none has been tried, returns the one that has been empty the longest, so that every launch
    /// tries at least one pool. The caller decides how often to launch.
    pub(super) fn next(&self, tried: &[usize], now: Instant) -> Option<usize> {
        let empty = |at: &usize| self.empty_until.get(at).is_some_and(|until| *until > now);
        let promising = (0..self.all.len()).find(|at| !tried.contains(at) && !empty(at));
        let oldest = || self.empty_until.iter().min_by_key(|(_, until)| **until).map(|(at, _)| *at);
        promising.or_else(|| if tried.is_empty() { oldest() } else { None })
    }

    /// Records that the pool had no capacity.
    pub(super) fn mark_empty(&mut self, at: usize, now: Instant) {
        self.empty_until.insert(at, now + self.memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn spot_precedes_types_and_types_precede_subnets() {
        let pools = Pools::new(&names(&["a", "b"]), &names(&["x", "y"]), true, Duration::ZERO);
        let order: Vec<String> = pools
            .all
            .iter()
            .map(|p| {
                format!(
                    "{}{}{}",
                    if p.spot { "spot " } else { "" },
                    p.instance_type.as_ref().unwrap(),
                    p.subnet.as_ref().unwrap()
                )
            })
            .collect();
        assert_eq!(order, ["spot ax", "spot ay", "spot bx", "spot by", "ax", "ay", "bx", "by"]);
    }

    #[test]
    fn without_types_and_subnets_there_is_one_pool() {
        let pools = Pools::new(&[], &[], false, Duration::ZERO);
        assert_eq!(pools.all, [Pool { spot: false, instance_type: None, subnet: None }]);
    }

    #[test]
    fn an_empty_pool_is_avoided_until_its_memory_expires() {
        let now = Instant::now();
        let memory = Duration::from_secs(60);
        let mut pools = Pools::new(&names(&["a", "b"]), &[], false, memory);
        assert_eq!(pools.next(&[], now), Some(0));
        assert_eq!(pools.next(&[0], now), Some(1));
        pools.mark_empty(0, now);
        assert_eq!(pools.next(&[], now + memory / 2), Some(1));
        assert_eq!(pools.next(&[1], now + memory / 2), None);
        assert_eq!(pools.next(&[], now + memory), Some(0));

        pools.mark_empty(1, now + memory / 4);
        assert_eq!(pools.next(&[], now + memory / 2), Some(0), "all are empty: the one marked first");
        pools.mark_empty(0, now + memory / 2);
        assert_eq!(pools.next(&[], now + memory / 2), Some(1));
        assert_eq!(pools.next(&[1], now + memory / 2), None, "only one is tried");
    }
}

//! Where machines can come from, in order of preference, and which of these had none lately. Pure: time is passed in.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// One kind of machine in one place. `None` leaves the choice to the launch template, or to EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Cheaper, and taken away with two minutes' notice.
    pub spot: bool,
    pub instance_type: Option<String>,
    /// Names the zone as well.
    pub subnet: Option<String>,
}

/// Pools in order, with a memory of those that had no machine.
#[derive(Debug)]
pub struct Pools {
    all: Vec<Pool>,
    memory: Duration,
    empty_until: BTreeMap<usize, Instant>,
}

impl Pools {
    /// Each type in each subnet, types first in importance; all spot pools, if wanted, before any on demand.
    pub fn new(types: &[String], subnets: &[String], spot: bool, memory: Duration) -> Self {
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

    pub fn get(&self, at: usize) -> &Pool {
        &self.all[at]
    }

    /// The best pool that may have machines and is not among `tried`. Where none may have and none was tried, the one that
    /// was refused the longest ago: something is always asked, and how often is not decided here.
    pub fn next(&self, tried: &[usize], now: Instant) -> Option<usize> {
        let empty = |at: &usize| self.empty_until.get(at).is_some_and(|until| *until > now);
        let promising = (0..self.all.len()).find(|at| !tried.contains(at) && !empty(at));
        let oldest = || self.empty_until.iter().min_by_key(|(_, until)| **until).map(|(at, _)| *at);
        promising.or_else(|| if tried.is_empty() { oldest() } else { None })
    }

    /// Notes that the pool had no machine: it is left alone for a while.
    pub fn had_none(&mut self, at: usize, now: Instant) {
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
    fn spot_comes_first_then_types_then_subnets() {
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
    fn nothing_configured_is_one_pool_that_leaves_the_choice() {
        let pools = Pools::new(&[], &[], false, Duration::ZERO);
        assert_eq!(pools.all, [Pool { spot: false, instance_type: None, subnet: None }]);
    }

    #[test]
    fn an_empty_pool_is_left_alone_for_as_long_as_it_is_remembered() {
        let now = Instant::now();
        let memory = Duration::from_secs(60);
        let mut pools = Pools::new(&names(&["a", "b"]), &[], false, memory);
        assert_eq!(pools.next(&[], now), Some(0));
        assert_eq!(pools.next(&[0], now), Some(1));
        pools.had_none(0, now);
        assert_eq!(pools.next(&[], now + memory / 2), Some(1));
        assert_eq!(pools.next(&[1], now + memory / 2), None);
        assert_eq!(pools.next(&[], now + memory), Some(0));

        pools.had_none(1, now + memory / 4);
        assert_eq!(pools.next(&[], now + memory / 2), Some(0), "all are empty: the oldest refusal first");
        pools.had_none(0, now + memory / 2);
        assert_eq!(pools.next(&[], now + memory / 2), Some(1));
        assert_eq!(pools.next(&[1], now + memory / 2), None, "one is enough");
    }
}

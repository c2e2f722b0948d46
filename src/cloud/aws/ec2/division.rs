//! Divides a call for many instances if EC2 refuses it, because EC2 changes all instances of a call or none. Pure.

use std::ops::Range;

use crate::{
    cloud::{CloudError, CloudResult},
    fleet::INSTANCES_PER_CALL,
};

/// How often calls are divided for which there is no capacity. Each division costs a call, and EC2 limits their rate.
const MAX_DIVISIONS: usize = 6;

/// The calls for a number of instances. One that fails because of a single instance is bisected; one for which there is no
/// capacity is divided a few times.
pub(super) struct Division {
    /// What is to be called for, the next one last.
    todo: Vec<Range<usize>>,
    divisions: usize,
    /// The result of each instance.
    pub(super) results: Vec<CloudResult<()>>,
}

impl Division {
    pub(super) fn new(count: usize) -> Self {
        let calls = (0..count).step_by(INSTANCES_PER_CALL).map(|first| first..count.min(first + INSTANCES_PER_CALL));
        let todo = calls.rev().collect();
        Self { todo, divisions: 0, results: vec![Ok(()); count] }
    }

    /// Returns the instances of the next call.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.todo.pop()
    }

    /// Records the answer to a call for these instances.
    pub(super) fn answered(&mut self, range: Range<usize>, result: CloudResult<()>) {
        let Err(error) = result else { return };
        let divide = match error {
            CloudError::NotFound(_) | CloudError::Conflict(_) | CloudError::Invalid(_) => true,
            CloudError::NoCapacity(_) => self.divisions < MAX_DIVISIONS,
            _ => false,
        };
        if divide && range.len() > 1 {
            self.divisions += 1;
            let middle = range.start + range.len() / 2;
            self.todo.extend([middle..range.end, range.start..middle]);
        } else {
            self.results[range].fill(Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls for `count` instances, of which `fit` can be started and `gone` does not exist. Returns how many were, and the
    /// number of calls.
    fn started(count: usize, fit: usize, gone: Option<usize>) -> (usize, usize) {
        let (mut division, mut left, mut calls) = (Division::new(count), fit, 0);
        while let Some(range) = division.next() {
            calls += 1;
            let result = if gone.is_some_and(|gone| range.contains(&gone)) {
                Err(CloudError::NotFound("i-1".into()))
            } else if range.len() > left {
                Err(CloudError::NoCapacity("none".into()))
            } else {
                left -= range.len();
                Ok(())
            };
            division.answered(range, result);
        }
        (division.results.iter().filter(|result| result.is_ok()).count(), calls)
    }

    #[test]
    fn a_call_for_which_there_is_no_capacity_is_divided_a_few_times() {
        assert_eq!(started(100, 100, None), (100, 1));
        assert_eq!(started(8, 5, None), (5, 9), "four of them, and one of the others");
        let (none, calls) = started(1000, 0, None);
        assert!(none == 0 && calls <= 2 * MAX_DIVISIONS + 1, "{calls} calls");
        assert_eq!(started(0, 0, None), (0, 0));
    }

    #[test]
    fn no_call_has_more_instances_than_ec2_accepts() {
        let mut division = Division::new(2 * INSTANCES_PER_CALL + 1);
        let mut next = 0;
        while let Some(range) = division.next() {
            assert!(range.start == next && range.len() <= INSTANCES_PER_CALL, "{range:?}");
            next = range.end;
            let failed = next == INSTANCES_PER_CALL;
            division.answered(range, if failed { Err(CloudError::Throttled) } else { Ok(()) });
        }
        let changed = division.results.iter().filter(|result| result.is_ok()).count();
        assert_eq!((next, changed), (2 * INSTANCES_PER_CALL + 1, INSTANCES_PER_CALL + 1), "the others are changed");
    }

    #[test]
    fn a_call_that_fails_because_of_one_instance_changes_the_others() {
        assert_eq!(started(8, 8, Some(3)), (7, 7));
        assert_eq!(started(1, 1, Some(0)), (0, 1));
    }
}

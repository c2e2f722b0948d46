//! `backlog`: a number of jobs per instance, with one delay upwards and another downwards.

use super::input::{PolicyInput, saturating};
use crate::rules::FleetRules;

/// Returns the number of instances wanted. With `want(d) = ceil(d / jobs_per_instance)`:
///
/// - `up   = want(lowest demand of the last up_delay)`: demand that has lasted,
/// - `down = want(highest demand of the last down_delay)`: demand that may come back,
/// - `target = min(max(previous, up), down, cap)`.
///
/// The target rises when demand has been higher for `up_delay`, falls when demand has been lower for `down_delay`, and
/// otherwise stays (Kubernetes' HorizontalPodAutoscaler calls the two delays stabilization windows). The core stops no
/// running instance; while the target stays up, an instance that stops itself is started again.
pub fn target(input: &PolicyInput, rules: &FleetRules) -> usize {
    let want = |demand: u64| saturating(demand.div_ceil(rules.jobs_per_instance as u64));
    input.previous.max(want(input.low_demand)).min(want(input.high_demand)).min(input.cap)
}

//! `backlog`: so many jobs an instance, with a delay upwards and another downwards.

use super::{FleetRules, Known};

/// With `want(d) = ceil(d / jobs_per_instance)`:
///
/// - `up   = want(lowest demand of the last up_delay)`: demand that has lasted,
/// - `down = want(highest demand of the last down_delay)`: demand that may come back,
/// - `target = min(max(previous, up), down, cap)`.
///
/// It rises when demand has been higher for `up_delay`, falls when it has been lower for `down_delay`, and stays
/// otherwise: Kubernetes' HorizontalPodAutoscaler calls the two stabilisation windows. Since nothing that runs is stopped
/// from here, a target that stays up means that an instance that stops itself in that time is started again.
pub fn target(known: &Known, rules: &FleetRules) -> usize {
    let want = |demand: u64| usize::try_from(demand.div_ceil(rules.jobs_per_instance as u64)).unwrap_or(usize::MAX);
    known.previous.max(want(known.low_demand)).min(want(known.high_demand)).min(known.cap)
}

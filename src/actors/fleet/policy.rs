//! How many instances are wanted: pure functions of what is known.

use crate::settings::Policy;

/// Instances wanted for `demand` jobs (visible + in flight + delayed) under a cap.
///
/// `report`: `min(demand, cap)`, one instance a job, as in the design that Rollcall re-makes.
pub fn target(policy: Policy, demand: u64, cap: usize) -> usize {
    match policy {
        Policy::Report => usize::try_from(demand).unwrap_or(usize::MAX).min(cap),
    }
}

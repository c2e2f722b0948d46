//! `one-per-job` (also accepted as `report`): one instance per job.

use super::input::{PolicyInput, saturating};

/// Returns `min(demand, cap)`. For every policy, the core subtracts existing instances and starts stopped ones first.
pub fn target(input: &PolicyInput) -> usize {
    saturating(input.demand).min(input.cap)
}

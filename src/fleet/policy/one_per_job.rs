//! `one-per-job` (also accepted as `report`): one instance per job.

use super::known::{Known, saturating};

/// Returns `min(demand, cap)`. For every policy, the core subtracts existing instances and starts stopped ones first.
pub fn target(known: &Known) -> usize {
    saturating(known.demand).min(known.cap)
}

//! `one-per-job` (also accepted as `report`): one instance per job.

use super::known::{Known, saturating};

/// `target = min(demand, cap)`. The core subtracts what exists and starts stopped instances first, for every policy.
pub fn target(known: &Known) -> usize {
    saturating(known.demand).min(known.cap)
}

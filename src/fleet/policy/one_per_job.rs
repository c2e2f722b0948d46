//! `report`: one instance a job, as in the design that Rollcall re-makes.

use super::{Known, one_each};

/// `min(demand, cap)`; what exists is subtracted, and stopped instances are restarted first, by the core, for every
/// policy.
pub fn target(known: &Known) -> usize {
    one_each(known.demand).min(known.cap)
}

//! What is known of the fleet at an instant.

use crate::{fleet::view::FleetView, settings::Prices};

/// Number of values whose average over time is kept.
pub(super) const MEANS: usize = 8;
/// Number of values whose maximum is kept.
pub(super) const PEAKS: usize = 2;
/// Index of the number of seconds of a second during which the fleet is degraded.
pub(super) const DEGRADED: usize = 6;
/// Index of the cost.
pub(super) const COST: usize = 7;

/// What is known of the fleet at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Instances that are pending, running, stopping, stopped and shutting down; those that are wanted; 1 if the fleet is
    /// degraded; and the cost per second.
    pub(super) means: [f64; MEANS],
    /// Jobs that wait, and that are in flight.
    pub(super) peaks: [f64; PEAKS],
}

impl Gauges {
    /// Returns what a view shows. Costs are those of the instances and their disks.
    pub fn of(view: &FleetView, prices: &Prices) -> Self {
        let c = &view.counts;
        let counts = [c.pending, c.running, c.stopping, c.stopped, c.shutting_down, view.target];
        let [pending, running, stopping, stopped, shutting_down, target] = counts.map(|count| count as f64);
        let degraded = f64::from(u8::from(view.degraded.is_some()));
        let cost = prices.workers_per_hour(c) / 3600.0;
        Self {
            means: [pending, running, stopping, stopped, shutting_down, target, degraded, cost],
            peaks: [view.depth.visible.saturating_add(view.depth.delayed) as f64, view.depth.in_flight as f64],
        }
    }
}

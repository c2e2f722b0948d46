//! What the model is made for, and what it answers.

use super::{rule::Times, spread::Spread};

/// What is modelled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct World {
    pub times: Times,
    /// The most instances.
    pub cap: usize,
    /// Seconds between two sweeps.
    pub sweep_every: f64,
    /// A wait that is longer counts as late, in seconds.
    pub target_wait: f64,
    /// How boots vary.
    pub spread: Spread,
}

impl World {
    /// Returns whether a time differs by more than a tenth, or anything else at all.
    pub fn differs(&self, other: &Self) -> bool {
        let times = |world: &Self| {
            let times = &world.times;
            [times.cold, times.warm, times.unbilled, times.stop, times.service, times.minimum, world.sweep_every]
        };
        let far = |(a, b): (f64, f64)| (a - b).abs() > 0.1 * a.abs().max(b.abs());
        self.cap != other.cap
            || self.times.threads != other.times.threads
            || self.target_wait != other.target_wait
            || self.spread.differs(&other.spread)
            || times(self).into_iter().zip(times(other)).any(far)
    }
}

/// What the arrivals have cost, each part weighted by how recent it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Seconds billed for running instances.
    pub billed: f64,
    /// Seconds of disks.
    pub disks: f64,
    /// Seconds that jobs waited.
    pub waited: f64,
    /// Jobs.
    pub jobs: f64,
    /// Jobs that waited for longer than the target, by their probability.
    pub late: f64,
}

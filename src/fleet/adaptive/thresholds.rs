//! What is learned: the thresholds, and the values among which they are chosen.

use serde::{Deserialize, Serialize};

use super::{need::Need, rule::Times};

/// Seconds, from never to forever.
const WINDOWS: [f64; 16] = [
    0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 57600.0, 115200.0, 1e9,
];
/// Seconds of a running instance.
const VALUES: [f64; 13] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1e6];
/// Standard deviations, from the most cautious on.
const CAUTIONS: [f64; 8] = [1e3, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5, 0.0];
const BASES: [usize; 9] = [0, 1, 2, 3, 4, 6, 8, 12, 16];

/// Nothing is kept for longer than so many times the longest gap that was seen.
const GAPS: f64 = 1.5;

/// Seconds of a running instance.
const HOLDS: [f64; 12] = [0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0, 256.0, 1e9];

/// The number of coordinates.
pub(super) const COORDINATES: usize = 7;

/// A point of the grid: for each coordinate, the index of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Point(pub [u8; COORDINATES]);

/// The thresholds of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Thresholds {
    /// What a second of one job's waiting is worth when instances are started, in seconds of a running instance.
    pub value: f64,
    /// How many standard deviations the rate of arrivals must be above chance to be expected to go on.
    pub caution: f64,
    /// What a second of one job's waiting is worth when instances stay, in seconds of a running instance.
    pub hold: f64,
    /// How long instances beyond the base stay after they were last needed, in seconds.
    pub stay: f64,
    /// The number of instances that stay longer.
    pub base: usize,
    /// How long those stay after they were last needed, in seconds.
    pub base_stay: f64,
    /// How long the disk of an instance is kept after it was last needed, in seconds.
    pub keep: f64,
}

/// The longest times, in seconds. Beyond the gaps that were seen, nothing speaks for staying any longer than for the
/// break-even time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// For which an instance stays.
    pub stay: f64,
    /// For which a disk is kept.
    pub keep: f64,
}

impl Limits {
    /// Returns the limits, after gaps of up to `longest_gap` seconds.
    pub fn new(prior: Point, longest_gap: f64) -> Self {
        let [_, _, stay, _, _, keep, _] = prior.0.map(usize::from);
        let seen = GAPS * longest_gap;
        Self { stay: WINDOWS[stay].max(seen), keep: WINDOWS[keep].max(seen) }
    }
}

impl Point {
    /// Number of values of each coordinate.
    pub const SIZES: [usize; COORDINATES] =
        [VALUES.len(), CAUTIONS.len(), WINDOWS.len(), BASES.len(), WINDOWS.len(), WINDOWS.len(), HOLDS.len()];

    /// Returns the thresholds. Nothing is kept for longer than `limits`.
    pub fn thresholds(self, limits: Limits) -> Thresholds {
        let [value, caution, stay, base, base_stay, keep, hold] = self.0.map(usize::from);
        Thresholds {
            value: VALUES[value],
            caution: CAUTIONS[caution],
            hold: HOLDS[hold],
            stay: WINDOWS[stay].min(limits.stay),
            base: BASES[base],
            base_stay: WINDOWS[base_stay].min(limits.stay),
            keep: WINDOWS[keep].min(limits.keep),
        }
    }

    /// Returns the point from which learning begins: the break-even times of ski rental. An instance stays until that has
    /// cost as much as another boot, and a disk is kept until that has cost as much as the longer boot of a new instance.
    /// `value` is what a second of one job's waiting is worth, in seconds of a running instance, and `disk` what a second of
    /// a disk costs, in the same unit.
    pub fn prior(value: f64, disk: f64, times: &Times) -> Self {
        let nearest = |all: &[f64], wanted: f64| {
            let above = all.partition_point(|v| *v < wanted);
            above.min(all.len() - 1) as u8
        };
        let stay = times.warm - times.unbilled.min(times.warm) + value * times.warm;
        let keep = (value + 0.6) * (times.cold - times.warm).max(0.0) / disk.max(1e-9);
        let stay = nearest(&WINDOWS, stay);
        Self([nearest(&VALUES, value), 4, stay, 1, stay, nearest(&WINDOWS, keep), nearest(&HOLDS, value * 2.0)])
    }

    /// Returns whether it is a point of the grid.
    pub fn is_valid(self) -> bool {
        self.0.iter().zip(Self::SIZES).all(|(index, size)| usize::from(*index) < size)
    }

    /// Returns the number of steps between two points, each weighted by how little is known about its coordinate otherwise.
    pub fn distance(self, other: Self) -> u32 {
        let weights = [5, 1, 1, 1, 1, 1, 1];
        self.0.iter().zip(other.0).zip(weights).map(|((a, b), weight)| weight * u32::from(a.abs_diff(b))).sum()
    }

    /// Returns the points that differ in one coordinate, by one step, two or four.
    /// The value of waiting is never below half of what the user says: rare crowds are not in every history.
    pub fn neighbours(self, coordinate: usize, prior: Self) -> Vec<Self> {
        let mut all = Vec::new();
        let steps: &[i16] = if coordinate == 0 { &[-2, 2, -1, 1] } else { &[-4, 4, -2, 2, -1, 1] };
        for step in steps {
            let index = i16::from(self.0[coordinate]) + step;
            let size = Self::SIZES[coordinate] as i16;
            let value = i16::from(prior.0[0]);
            let range = if coordinate == 0 { (value - 1).max(0)..(value + 5).min(size) } else { 0..size };
            if range.contains(&index) {
                let mut point = self;
                point.0[coordinate] = index as u8;
                all.push(point);
            }
        }
        all
    }
}

impl Thresholds {
    /// Returns how long an instance stays after so many were last needed.
    pub fn stays(&self, number: usize) -> f64 {
        if number <= self.base { self.stay.max(self.base_stay) } else { self.stay }
    }

    /// Returns how many instances so many jobs need. The `k`-th shortens their waiting by `n²·s/2c · (1/(k − 1) − 1/k)`, and
    /// is needed if that is worth a second.
    pub fn needed(&self, jobs: f64, times: &Times) -> usize {
        let worth = self.hold * jobs * jobs * times.service / (2.0 * times.threads);
        let count = (1.0 + (1.0 + 4.0 * worth).sqrt()) / 2.0;
        count.min((jobs / times.threads).ceil()) as usize
    }

    /// Returns how many instances stay, whether they have a job or not.
    pub fn staying(&self, now: f64, need: &Need) -> usize {
        need.within(now, self.stay).max(need.within(now, self.base_stay).min(self.base))
    }
}

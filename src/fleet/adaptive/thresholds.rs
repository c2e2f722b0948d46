//! What is learned: the thresholds, and the values among which they are chosen.

use serde::{Deserialize, Serialize};

use super::{need::Need, rule::Times};

/// Seconds, from never to forever.
const WINDOWS: [f64; 16] = [
    0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 57600.0, 115200.0, 1e9,
];
/// With a target: seconds for which instances stay. The least is the billed minimum.
const TARGET_STAYS: [f64; 16] =
    [0.0, 75.0, 90.0, 105.0, 120.0, 150.0, 180.0, 240.0, 300.0, 450.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 1e9];
/// With a target: seconds for which disks are kept. A cold boot may be too late, so a disk is not given up soon.
const TARGET_KEEPS: [f64; 16] = [
    7200.0, 9600.0, 12_000.0, 14_400.0, 18_000.0, 21_600.0, 28_800.0, 43_200.0, 57_600.0, 86_400.0, 115_200.0,
    172_800.0, 259_200.0, 345_600.0, 604_800.0, 1e9,
];
/// With a target: the most instances that are kept stopped, as a share of the cap. More would cost more than running ones
/// that are rarely needed are worth.
const SPARES: [f64; 8] = [0.25, 0.3, 0.35, 0.35, 0.35, 0.35, 0.35, 0.35];
/// With a target: instances that are kept stopped besides those that were needed.
const EXTRAS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20];
/// With a target: if an instance comes up too late, the share of the target that it is given in which to work.
const ROOM: f64 = 0.2;
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
    /// What the fleet is for.
    pub aim: Aim,
    /// How long instances beyond the base stay after they were last needed, in seconds.
    pub stay: f64,
    /// The number of instances that stay longer.
    pub base: usize,
    /// How long those stay after they were last needed, in seconds.
    pub base_stay: f64,
    /// How long the disk of an instance is kept after it was last needed, in seconds.
    pub keep: f64,
}

/// What the fleet is for, and the thresholds that only this needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Aim {
    /// The least cost and priced waiting.
    Price {
        /// What a second of one job's waiting is worth when instances are started, in seconds of a running instance.
        value: f64,
        /// How many standard deviations the rate of arrivals must be above chance to be expected to go on.
        caution: f64,
        /// What a second of one job's waiting is worth when instances stay, in seconds of a running instance.
        hold: f64,
    },
    /// The least cost with which jobs begin in time.
    Target {
        /// Within how many seconds after their arrival jobs are planned to begin.
        within: f64,
        /// If an instance comes up too late for that, how many seconds it is given in which to work.
        room: f64,
        /// The most instances that are kept stopped, as a share of the cap.
        spare: f64,
        /// How many are kept besides those that were needed: one that is stopping cannot be started.
        extra: usize,
    },
}

/// The longest times, in seconds. Beyond the gaps that were seen, nothing speaks for staying any longer than for the
/// break-even time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limits {
    /// Within how many seconds after their arrival jobs are planned to begin, if there is a target.
    pub within: Option<f64>,
    /// For which an instance stays.
    pub stay: f64,
    /// For which a disk is kept.
    pub keep: f64,
}

impl Limits {
    /// No limits, and no target.
    pub const NONE: Self = Self { within: None, stay: f64::INFINITY, keep: f64::INFINITY };

    /// Returns the limits, after gaps of up to `longest_gap` seconds.
    pub fn new(prior: Point, within: Option<f64>, longest_gap: f64) -> Self {
        let [_, _, stay, _, _, keep, _] = prior.0.map(usize::from);
        let (seen, [stays, keeps]) = (GAPS * longest_gap, windows(within));
        Self { within, stay: stays[stay].max(seen), keep: keeps[keep].max(seen) }
    }
}

/// Returns for how long instances may stay, and disks may be kept.
fn windows(within: Option<f64>) -> [&'static [f64; 16]; 2] {
    if within.is_some() { [&TARGET_STAYS, &TARGET_KEEPS] } else { [&WINDOWS, &WINDOWS] }
}

impl Point {
    /// Number of values of each coordinate.
    pub const SIZES: [usize; COORDINATES] =
        [VALUES.len(), CAUTIONS.len(), WINDOWS.len(), BASES.len(), WINDOWS.len(), WINDOWS.len(), HOLDS.len()];

    /// Returns the thresholds. Nothing is kept for longer than `limits`.
    pub fn thresholds(self, limits: Limits) -> Thresholds {
        let [value, caution, stay, base, base_stay, keep, hold] = self.0.map(usize::from);
        let aim = match limits.within {
            Some(within) => Aim::Target { within, room: ROOM * within, spare: SPARES[caution], extra: EXTRAS[hold] },
            None => Aim::Price { value: VALUES[value], caution: CAUTIONS[caution], hold: HOLDS[hold] },
        };
        let [stays, keeps] = windows(limits.within);
        Thresholds {
            aim,
            stay: stays[stay].min(limits.stay),
            base: BASES[base],
            base_stay: stays[base_stay].min(limits.stay),
            keep: keeps[keep].min(limits.keep),
        }
    }

    /// Returns the point from which learning begins if there is a target.
    pub fn target_prior() -> Self {
        Self([0, 0, 2, 1, 2, 6, 0])
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
    pub fn neighbours(self, coordinate: usize, prior: Self, has_target: bool) -> Vec<Self> {
        let mut all = Vec::new();
        if has_target && coordinate == 0 {
            return all;
        }
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

    /// Returns how many instances so many jobs need. With a price, the `k`-th shortens their waiting by
    /// `n²·s/2c · (1/(k − 1) − 1/k)`, and is needed if that is worth a second. With a target, as many are needed as begin them
    /// in time if they are started when the jobs come.
    pub fn needed(&self, jobs: f64, times: &Times) -> usize {
        let count = match self.aim {
            Aim::Price { hold, .. } => {
                let worth = hold * jobs * jobs * times.service / (2.0 * times.threads);
                (1.0 + (1.0 + 4.0 * worth).sqrt()) / 2.0
            }
            Aim::Target { within, room, .. } => {
                (jobs * times.service / (times.threads * (within - times.warm).max(room))).ceil()
            }
        };
        count.min((jobs / times.threads).ceil()) as usize
    }

    /// Returns how many stopped instances are kept, besides `present` ones that are not stopped.
    pub fn kept(&self, now: f64, need: &Need, present: usize, cap: usize) -> usize {
        let needed = need.within(now, self.keep);
        match self.aim {
            Aim::Target { spare, extra, .. } if needed > 0 => {
                (needed + extra).saturating_sub(present).min((spare * cap as f64).ceil() as usize)
            }
            _ => needed.saturating_sub(present),
        }
    }

    /// Returns how many instances stay, whether they have a job or not.
    pub fn staying(&self, now: f64, need: &Need) -> usize {
        need.within(now, self.stay).max(need.within(now, self.base_stay).min(self.base))
    }
}

//! One bucket of time: while it is filled, and as it is kept.

use serde::{Deserialize, Serialize};

use super::{
    count::{COUNTS, Count},
    gauges::{Gauges, MEANS, PEAKS},
    latency::{Latencies, Latency, Quantiles},
};

/// What is kept of a bucket of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// When it begins, in seconds since the Unix epoch.
    pub at_s: u64,
    /// Seconds of it in which the fleet was seen.
    pub seen_s: f32,
    /// The integrals of [`Gauges::means`] over these seconds.
    pub(super) integrals: [f32; MEANS],
    /// The maxima of [`Gauges::peaks`].
    pub(super) peaks: [f32; PEAKS],
    /// By [`Count`].
    pub(super) counts: [u32; COUNTS],
    /// Number of answers that were timed.
    pub(super) timed: u32,
    /// Percentiles of their times.
    pub(super) quantiles: Option<Quantiles>,
}

impl Point {
    /// Returns how often something happened.
    pub fn count(&self, count: Count) -> u32 {
        self.counts[count as usize]
    }

    /// Returns the averages of what was seen; `None` if nothing was.
    pub(super) fn means(&self) -> Option<[f32; MEANS]> {
        (self.seen_s > 0.0).then(|| self.integrals.map(|integral| integral / self.seen_s))
    }
}

/// A bucket of time that is being filled.
pub(super) struct Bucket {
    at_s: u64,
    seen_s: f64,
    integrals: [f64; MEANS],
    peaks: [f64; PEAKS],
    counts: [u32; COUNTS],
    latencies: Option<Box<Latencies>>,
    /// Number and percentiles of the answers before a restart, whose distribution is not known any more.
    earlier: (u32, Option<Quantiles>),
}

impl Bucket {
    /// Creates an empty bucket.
    pub fn new(at_s: u64) -> Self {
        Self::resume(&Point { at_s, ..Point::default() })
    }

    /// Continues a bucket that was kept before its end.
    pub fn resume(point: &Point) -> Self {
        Self {
            at_s: point.at_s,
            seen_s: point.seen_s.into(),
            integrals: point.integrals.map(f64::from),
            peaks: point.peaks.map(f64::from),
            counts: point.counts,
            latencies: None,
            earlier: (point.timed, point.quantiles),
        }
    }

    pub fn at_s(&self) -> u64 {
        self.at_s
    }

    /// Adds that the fleet was like this for so many seconds.
    pub fn hold(&mut self, gauges: &Gauges, seconds: f64) {
        self.seen_s += seconds;
        for (integral, value) in self.integrals.iter_mut().zip(gauges.means) {
            *integral += value * seconds;
        }
        self.touch(gauges);
    }

    /// Adds that the fleet was like this at an instant.
    pub fn touch(&mut self, gauges: &Gauges) {
        for (peak, value) in self.peaks.iter_mut().zip(gauges.peaks) {
            *peak = peak.max(value);
        }
    }

    pub fn count(&mut self, count: Count) {
        let counted = &mut self.counts[count as usize];
        *counted = counted.saturating_add(1);
    }

    pub fn answered_in(&mut self, latency: &Latency) {
        self.latencies.get_or_insert_with(|| Box::new(Latencies::new())).add(latency);
    }

    /// Returns what is kept of the bucket. Of a bucket that a restart has split, the percentiles are those of the part with
    /// more answers.
    pub fn point(&self) -> Point {
        let now = self.latencies.as_ref().map_or(0, |latencies| latencies.len());
        let (before, earlier) = self.earlier;
        let quantiles = match &self.latencies {
            Some(latencies) if now >= before => Some(latencies.quantiles()),
            _ => earlier,
        };
        Point {
            at_s: self.at_s,
            seen_s: self.seen_s as f32,
            integrals: self.integrals.map(|integral| integral as f32),
            peaks: self.peaks.map(|peak| peak as f32),
            counts: self.counts,
            timed: before.saturating_add(now),
            quantiles,
        }
    }
}

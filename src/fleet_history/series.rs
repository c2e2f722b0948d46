//! A ring of buckets of one length.

use std::collections::VecDeque;

use super::bucket::{Bucket, Point};

/// A ring of buckets of `step_s` seconds, of which it keeps `capacity`. Buckets in which nothing was seen are left out.
pub(super) struct Series {
    step_s: u64,
    capacity: usize,
    closed: VecDeque<Point>,
    open: Option<Bucket>,
}

impl Series {
    pub fn new(step_s: u64, capacity: usize) -> Self {
        Self { step_s, capacity, closed: VecDeque::new(), open: None }
    }

    pub fn step_s(&self) -> u64 {
        self.step_s
    }

    /// Returns the bucket of a time, or the latest one if that is later. Closes the one before.
    pub fn bucket(&mut self, at_s: u64) -> &mut Bucket {
        let start = at_s - at_s % self.step_s;
        if self.open.as_ref().is_none_or(|open| open.at_s() < start) {
            if let Some(done) = self.open.take() {
                self.closed.push_back(done.point());
            }
            self.forget_before(start);
        }
        self.open.get_or_insert_with(|| Bucket::new(start))
    }

    /// Keeps so many buckets that, with the one that begins at `start`, they are not more than the capacity.
    fn forget_before(&mut self, start: u64) {
        let oldest = start.saturating_sub((self.capacity as u64 - 1) * self.step_s);
        while self.closed.front().is_some_and(|front| front.at_s < oldest || self.closed.len() >= self.capacity) {
            self.closed.pop_front();
        }
    }

    /// Forgets the buckets that end after this time, because the clock was set back to it.
    pub fn forget_after(&mut self, at_s: u64) {
        let start = at_s - at_s % self.step_s;
        self.open.take_if(|open| open.at_s() >= start);
        while self.closed.back().is_some_and(|back| back.at_s >= start) {
            self.closed.pop_back();
        }
    }

    /// Returns the buckets that begin at `from_s` or later, oldest first, including the open one as it is.
    pub fn points(&self, from_s: u64) -> Vec<Point> {
        let first = self.closed.partition_point(|point| point.at_s < from_s);
        let open = self.open.as_ref().filter(|open| open.at_s() >= from_s).map(Bucket::point);
        self.closed.range(first..).cloned().chain(open).collect()
    }

    /// Creates a ring with points that were kept; those that could not be in it are left out.
    pub fn restore(step_s: u64, capacity: usize, points: Vec<Point>) -> Self {
        let mut series = Self::new(step_s, capacity);
        for point in points {
            let fits = point.at_s.is_multiple_of(step_s) && sound(&point);
            if fits && series.open.as_ref().is_none_or(|open| open.at_s() < point.at_s) {
                series.bucket(point.at_s);
                series.open = Some(Bucket::resume(&point));
            }
        }
        series
    }
}

/// Returns whether a point has only numbers that can have been counted or measured.
fn sound(point: &Point) -> bool {
    let measured = point.integrals.iter().chain(&point.peaks).chain([&point.seen_s]);
    let timed = point.quantiles.iter().flatten().flatten();
    measured.chain(timed).all(|number| number.is_finite() && *number >= 0.0)
}

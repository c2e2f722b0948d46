//! The least cost of on-intervals that meet the demands of a level.

use super::{demand::Demand, period::Linear};

/// A demand, with the time that is to be paid before its `latest` and before its `end`.
#[derive(Clone, Copy, Debug)]
pub struct Paid {
    pub demand: Demand,
    pub before_latest: f64,
    pub before_end: f64,
}

/// Returns the least cost of intervals such that, for each demand, one begins by `latest` and ends at `end` or later, or
/// `price` is paid for each of its exempted jobs. The demands are in the order of both times.
///
/// Dynamic programming over the demands. `off[i]` is the least cost for the demands before `i` with no interval that goes
/// on, `on[i]` that with one that goes on to the end of demand `i`. An interval begins as late as its first demand allows,
/// and is free up to there.
pub fn cover(demands: &[Paid], cost: Linear, price: f64) -> f64 {
    let n = demands.len();
    let (mut off, mut on) = (vec![f64::INFINITY; n + 1], vec![f64::INFINITY; n + 1]);
    off[0] = 0.0;
    let mut beyond = 0;
    for i in 0..n {
        let begun = off[i] + cost.start;
        beyond = beyond.max(i);
        while beyond < n && demands[beyond].demand.end <= demands[i].demand.latest {
            beyond += 1;
        }
        off[beyond] = off[beyond].min(if beyond > i { begun } else { f64::INFINITY });
        if beyond < n {
            let paid = demands[beyond].before_end - demands[i].before_latest;
            on[beyond] = on[beyond].min(begun + cost.rate * paid.max(0.0));
        }
        off[i + 1] = off[i + 1].min(off[i] + price * demands[i].demand.exempt).min(on[i]);
        if i + 1 < n {
            on[i + 1] = on[i + 1].min(on[i] + cost.rate * (demands[i + 1].before_end - demands[i].before_end));
        }
    }
    off[n]
}

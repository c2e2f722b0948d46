//! A part of the history, as the page draws it: one array per series.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    bucket::Point,
    count::Count,
    gauges::{COST, DEGRADED},
    history::{History, Range},
    latency::STAGES,
};
use crate::fleet::explain::Decision;

/// A part of the history.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetHistoryPage)]
pub struct Page {
    /// The range.
    pub range: Range,
    /// The length of the range in seconds.
    pub range_s: u64,
    /// The length of a bucket in seconds.
    pub step_s: u64,
    /// The time of the server, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// When the history begins, in milliseconds since the Unix epoch; 0 if nothing was seen yet.
    pub since_ms: u64,
    /// What the instances have cost since then.
    pub cost: f64,
    /// The buckets.
    pub points: Columns,
    /// The decisions since the first bucket that was asked for, oldest first.
    #[schema(value_type = Vec<Decision>)]
    pub decisions: Vec<Arc<Decision>>,
}

/// Buckets, oldest first: each field has one value for each of them. Those in which nothing was seen are left out.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = FleetHistoryColumns)]
pub struct Columns {
    /// When each begins, in seconds since the Unix epoch.
    at_s: Vec<u64>,
    /// Seconds of it in which the fleet was seen.
    seen_s: Vec<f32>,
    /// Jobs that waited, at most.
    waiting: Vec<f32>,
    /// Jobs in flight, at most.
    in_flight: Vec<f32>,
    /// Instances by state, and how many were wanted, on average; null if the fleet was not seen.
    pending: Vec<Option<f32>>,
    running: Vec<Option<f32>>,
    stopping: Vec<Option<f32>>,
    stopped: Vec<Option<f32>>,
    shutting_down: Vec<Option<f32>>,
    target: Vec<Option<f32>>,
    /// Share of the time in which the fleet was degraded.
    degraded: Vec<Option<f32>>,
    /// Cost of the instances, in the currency of `[prices]`.
    cost: Vec<f32>,
    /// What happened, in numbers.
    uploads: Vec<u32>,
    answers: Vec<u32>,
    failures: Vec<u32>,
    refusals: Vec<u32>,
    dead_letters: Vec<u32>,
    /// The time of answers by stage, in milliseconds.
    latency: Vec<Stage>,
}

/// The time of answers in one stage, in milliseconds; null if none was timed.
#[derive(Serialize, ToSchema)]
#[schema(as = FleetHistoryStage)]
struct Stage {
    stage: &'static str,
    p50: Vec<Option<f32>>,
    p90: Vec<Option<f32>>,
    p99: Vec<Option<f32>>,
}

impl Page {
    /// Returns the part of a range from `from_s` on.
    pub(super) fn new(history: &History, range: Range, from_s: u64) -> Self {
        let (step_s, buckets) = range.shape();
        let range_s = step_s * buckets as u64;
        let now_ms = history.now_ms();
        let from_s = from_s.max((now_ms / 1000).saturating_sub(range_s));
        let (since_ms, cost) = history.cost();
        Self {
            range,
            range_s,
            step_s,
            now_ms,
            since_ms,
            cost,
            points: Columns::new(&history.points(range, from_s)),
            decisions: history.decisions(from_s.saturating_mul(1000)).cloned().collect(),
        }
    }
}

impl Columns {
    fn new(points: &[Point]) -> Self {
        let column = |of: fn(&Point) -> f32| points.iter().map(|point| rounded(of(point))).collect();
        let count = |count| points.iter().map(|point| point.count(count)).collect();
        let mean = |index: usize| points.iter().map(|point| Some(rounded(point.means()?[index]))).collect();
        let stage = |(index, stage): (usize, &'static str)| {
            let quantile = |q: usize| points.iter().map(|point| Some(rounded(point.quantiles?[index][q]))).collect();
            Stage { stage, p50: quantile(0), p90: quantile(1), p99: quantile(2) }
        };
        Self {
            at_s: points.iter().map(|point| point.at_s).collect(),
            seen_s: column(|point| point.seen_s),
            waiting: column(|point| point.peaks[0]),
            in_flight: column(|point| point.peaks[1]),
            pending: mean(0),
            running: mean(1),
            stopping: mean(2),
            stopped: mean(3),
            shutting_down: mean(4),
            target: mean(5),
            degraded: mean(DEGRADED),
            cost: points.iter().map(|point| point.integrals[COST]).collect(),
            uploads: count(Count::Upload),
            answers: count(Count::Answer),
            failures: count(Count::Failure),
            refusals: count(Count::Refusal),
            dead_letters: count(Count::DeadLetter),
            latency: STAGES.into_iter().enumerate().map(stage).collect(),
        }
    }
}

/// Rounds to a thousandth, which keeps the answer short.
fn rounded(value: f32) -> f32 {
    (value * 1000.0).round() / 1000.0
}

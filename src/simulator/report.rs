//! The figures of a run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Time,
    history::History,
    oracle::least_cost,
    parameters::{Parameters, Prices},
    traces::Trace,
    usage::{ApiCalls, Cost, PeakCalls, Usage},
};

/// Converts to seconds, rounded to the millisecond.
fn seconds(time: Time) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

/// Rounds an amount of money to a millionth.
fn money(amount: f64) -> f64 {
    (amount * 1e6).round() / 1e6
}

/// Quantiles by nearest rank, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

impl Quantiles {
    fn of(mut times: Vec<Time>) -> Self {
        times.sort_unstable();
        let rank = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).max(1) - 1;
            times.get(index).copied().map_or(0.0, seconds)
        };
        Self { p50: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

/// The figures of a run: an element of the list that `rollcall simulate --json` prints. `docs/simulator.md` describes
/// it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the run within a comparison.
    pub label: String,
    /// Name of the policy, or of the baseline, that controlled the fleet.
    pub policy: String,
    /// Name of the trace.
    pub trace: String,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Calls of each kind that the region allows to the request queue per second; 0 for any number.
    pub queue_quota: f64,
    /// Jobs of the trace.
    pub requests: usize,
    /// Requests answered; fewer than `requests` only if the run was cut off.
    pub completed: usize,
    /// From the first upload to the last response.
    pub makespan_s: f64,
    /// From an upload to the thread that begins its job.
    pub wait_s: Quantiles,
    /// The sum of the times from an upload to the thread that begins its job, in hours.
    pub waiting_hours: f64,
    /// From an upload to its response.
    pub end_to_end_s: Quantiles,
    /// Running time of all instances, at least 60 s per start.
    pub billed_instance_s: f64,
    /// Instance-hours in state stopped.
    pub stopped_hours: f64,
    /// In the currency of the prices.
    pub cost: f64,
    /// The parts of the cost.
    pub cost_parts: Cost,
    /// What any controller pays at least that holds the same p99 of waiting ([`crate::oracle`]), if that was computed, and
    /// every request was answered.
    pub least_cost: Option<f64>,
    /// Instances launched.
    pub launches: u64,
    /// Instances started from stopped.
    pub starts: u64,
    /// Instances terminated.
    pub terminations: u64,
    /// Maximum number of instances pending or running at the same time.
    pub peak_instances: usize,
    /// Calls by kind.
    pub api_calls: ApiCalls,
    /// The most in any one second.
    pub peak_per_second: PeakCalls,
    /// Calls to EC2 refused by a rate limit.
    pub throttles: u64,
    /// Calls to the request queue refused by its quota.
    pub queue_throttles: u64,
    /// Calls that found no capacity, or too little.
    pub capacity_errors: u64,
    /// From the start of the trace to the end of the run.
    pub simulated_s: f64,
}

impl Report {
    /// Computes the figures. The caller sets the label, the policy, the trace and the seed.
    pub(super) fn new(history: &History, usage: &Usage, prices: &Prices) -> Self {
        let done = history.jobs.iter().filter(|j| j.answered.is_some());
        let wait: Vec<Time> = done.clone().filter_map(|j| Some(j.started_at?.saturating_sub(j.arrived))).collect();
        let end_to_end = done.clone().filter_map(|j| Some(j.answered?.saturating_sub(j.arrived))).collect();
        let first = history.jobs.iter().map(|j| j.arrived).min().unwrap_or_default();
        let last = done.clone().filter_map(|j| j.answered).max().unwrap_or(first);
        let cost = usage.cost(prices);
        Self {
            label: String::new(),
            policy: String::new(),
            trace: String::new(),
            seed: 0,
            queue_quota: 0.0,
            requests: history.jobs.len(),
            completed: done.count(),
            makespan_s: seconds(last.saturating_sub(first)),
            waiting_hours: (wait.iter().sum::<Time>().as_secs_f64() / 3600.0 * 1e6).round() / 1e6,
            wait_s: Quantiles::of(wait),
            end_to_end_s: Quantiles::of(end_to_end),
            billed_instance_s: seconds(usage.billed),
            stopped_hours: seconds(usage.stopped / 3600),
            cost: money(cost.total()),
            least_cost: None,
            cost_parts: Cost { instances: money(cost.instances), disks: money(cost.disks), queues: money(cost.queues) },
            launches: usage.launches,
            starts: usage.starts,
            terminations: usage.terminations,
            peak_instances: history.peak,
            api_calls: usage.calls,
            peak_per_second: usage.peak_per_second,
            throttles: usage.throttles,
            queue_throttles: usage.queue_throttles,
            capacity_errors: usage.capacity_errors,
            simulated_s: seconds(history.end),
        }
    }
}

impl Report {
    /// Computes the least cost at the p99 of waiting that the run had.
    #[must_use]
    pub fn with_least_cost(mut self, parameters: &Parameters, trace: &Trace) -> Self {
        // Quantiles are rounded to the millisecond.
        let wait = Duration::from_secs_f64(self.wait_s.p99) + Duration::from_micros(500);
        let answered = self.completed == self.requests;
        self.least_cost = answered.then(|| (least_cost(parameters, trace, wait) * 1e6).floor() / 1e6);
        self
    }

    /// Returns how many times the least cost the run has cost.
    pub fn distance(&self) -> Option<f64> {
        self.least_cost.filter(|least| *least > 0.0).map(|least| self.cost / least)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::history::JobTimes, *};

    #[test]
    fn quantiles_are_nearest_ranks() {
        let q = Quantiles::of((1..=200).rev().map(Time::from_secs).collect());
        assert_eq!(q, Quantiles { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
        assert_eq!(Quantiles::of(vec![Time::from_millis(1500)]).p50, 1.5);
    }

    #[test]
    fn the_figures_follow_from_the_history_and_the_usage() {
        let s = Time::from_secs;
        let job = |arrived, started_at, answered| JobTimes { arrived: s(arrived), started_at, answered };
        let jobs = vec![
            job(10, Some(s(12)), Some(s(15))),
            job(20, Some(s(27)), Some(s(28))),
            job(30, Some(s(31)), None), // cut off
        ];
        let history = History { jobs, peak: 4, end: s(99), ..History::default() };
        let usage = Usage { billed: s(500), stopped: s(5400), launches: 3, ..Usage::default() };
        let prices = Prices { instance_hour: 7.2, disk_gb_month: 0.0, disk_gb: 0.0, queue_million_calls: 0.0 };
        let report = Report::new(&history, &usage, &prices);
        assert_eq!((report.requests, report.completed, report.makespan_s), (3, 2, 18.0));
        assert_eq!((report.wait_s.p50, report.wait_s.max, report.waiting_hours), (2.0, 7.0, 0.0025));
        assert_eq!((report.end_to_end_s.p50, report.end_to_end_s.max), (5.0, 8.0));
        assert_eq!((report.billed_instance_s, report.stopped_hours, report.cost), (500.0, 1.5, 1.0));
        assert_eq!((report.peak_instances, report.launches, report.simulated_s), (4, 3, 99.0));
    }
}

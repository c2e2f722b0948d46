//! Judges a policy on a trace, over all seeds.

use serde::Serialize;

use super::outcome::{BASELINES, Outcomes};
use crate::simulator::Report;

/// A policy is as good as another if it costs at most this many times as much.
const AS_GOOD: f64 = 1.05;

/// The policies on one trace.
#[derive(Debug, Serialize)]
pub struct Verdict {
    pub trace: String,
    /// The judged policy, if there is one.
    pub policy: Option<String>,
    pub priced: Vec<Priced>,
    pub targets: Vec<Target>,
}

/// At one price of waiting.
#[derive(Debug, Serialize)]
pub struct Priced {
    /// What an hour of a job's waiting is worth.
    pub wait_price: f64,
    /// The median of cost and priced waiting, of each baseline.
    pub baselines: Vec<Baseline>,
    pub judged: Option<Judged>,
}

/// For one p99 of waiting.
#[derive(Debug, Serialize)]
pub struct Target {
    /// In seconds.
    pub target_wait_s: f64,
    /// On how many seeds each baseline holds it, and the median of its cost.
    pub baselines: Vec<Baseline>,
    pub judged: Option<Judged>,
}

/// A policy to compare with.
#[derive(Debug, Serialize)]
pub struct Baseline {
    pub policy: &'static str,
    pub median: f64,
    /// On how many seeds it holds the target; all of them without one.
    pub held: usize,
}

/// The judged policy.
#[derive(Debug, Serialize)]
pub struct Judged {
    pub seeds: usize,
    /// On how many seeds it holds the target, if there is one, and costs at most 1.05 times the best baseline, or the
    /// cheapest that holds the target, if one does.
    pub as_good: usize,
    /// On how many it holds the target; all of them without one.
    pub held: usize,
    /// Its own median.
    pub median: f64,
    /// Median and largest of its cost in relation to the best baseline, where there is one.
    pub ratio_median: Option<f64>,
    pub ratio_worst: Option<f64>,
    /// Median of its cost in relation to the least at its p99.
    pub distance: Option<f64>,
}

/// Judges one trace.
pub fn judge(trace: &str, runs: &[Outcomes], policy: Option<&str>) -> Verdict {
    let Some(first) = runs.first() else {
        return Verdict { trace: trace.to_owned(), policy: None, priced: Vec::new(), targets: Vec::new() };
    };
    let priced = (0..first.priced.len()).map(|n| {
        let wait_price = first.priced[n].0;
        let value = |report: &Report| priced(report, wait_price);
        let (baselines, judged) = compare(runs, |run| run.priced[n].1.as_ref(), &value, &|_| true);
        Priced { wait_price, baselines, judged }
    });
    let targets = (0..first.targets.len()).map(|n| {
        let target_wait_s = first.targets[n].0;
        let holds = |report: &Report| report.completed == report.requests && report.wait_s.p99 <= target_wait_s;
        let (baselines, judged) = compare(runs, |run| run.targets[n].1.as_ref(), &|report| report.cost, &holds);
        Target { target_wait_s, baselines, judged }
    });
    Verdict {
        trace: trace.to_owned(),
        policy: policy.map(str::to_owned),
        priced: priced.collect(),
        targets: targets.collect(),
    }
}

/// Returns the cost together with the waiting; infinite if not every request was answered.
fn priced(report: &Report, wait_price: f64) -> f64 {
    let answered = report.completed == report.requests;
    if answered { report.cost + wait_price * report.waiting_hours } else { f64::INFINITY }
}

fn compare<'a>(
    runs: &'a [Outcomes],
    judged: impl Fn(&'a Outcomes) -> Option<&'a Report>,
    value: &dyn Fn(&Report) -> f64,
    holds: &dyn Fn(&Report) -> bool,
) -> (Vec<Baseline>, Option<Judged>) {
    let baselines = BASELINES.iter().enumerate().map(|(n, policy)| Baseline {
        policy,
        median: median(runs.iter().map(|run| value(&run.baselines[n])).collect()).unwrap_or_default(),
        held: runs.iter().filter(|run| holds(&run.baselines[n])).count(),
    });
    let reports: Vec<(&Outcomes, &Report)> = runs.iter().filter_map(|run| Some((run, judged(run)?))).collect();
    let best = |run: &Outcomes| {
        let held = run.baselines.iter().filter(|report| holds(report)).map(value);
        held.min_by(f64::total_cmp).filter(|best| best.is_finite())
    };
    let ratios: Vec<f64> = reports.iter().filter_map(|(run, report)| Some(value(report) / best(run)?)).collect();
    let as_good = |(run, report): &&(&Outcomes, &Report)| {
        holds(report) && value(report).is_finite() && best(run).is_none_or(|best| value(report) <= AS_GOOD * best)
    };
    let verdict = (!reports.is_empty()).then(|| Judged {
        seeds: reports.len(),
        as_good: reports.iter().filter(as_good).count(),
        held: reports.iter().filter(|(_, report)| holds(report)).count(),
        median: median(reports.iter().map(|(_, report)| value(report)).collect()).unwrap_or_default(),
        ratio_worst: ratios.iter().copied().max_by(f64::total_cmp),
        ratio_median: median(ratios),
        distance: median(reports.iter().filter_map(|(_, report)| report.distance()).collect()),
    });
    (baselines.collect(), verdict)
}

/// Returns the middle number, the upper one of two.
fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied()
}

#[cfg(test)]
mod tests;

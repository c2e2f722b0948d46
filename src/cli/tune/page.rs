//! A self-contained page: the frontier, and what each of its points does over time.

use anyhow::Result;
use serde::Serialize;

use super::{
    text::{name, saving, shown},
    trial::{Cloud, Trial},
    tuned::Tuned,
};
use crate::{cli::parallel, simulator::History};

const PAGE: &str = include_str!("page.html");
/// Where the data are in the page.
const DATA: &str = "/*DATA*/null";
/// Most points of a curve. A longer history keeps the largest values of each interval.
const MAX_SAMPLES: usize = 4000;
/// Most jobs whose latency is shown.
const MAX_JOBS: usize = 4000;

#[derive(Serialize)]
struct Data<'a> {
    title: String,
    summary: String,
    /// Cost and p99 of every configuration that was simulated.
    all: &'a [(f64, f64)],
    points: Vec<Point>,
}

/// A configuration, with its history.
#[derive(Serialize)]
struct Point {
    name: String,
    cost: f64,
    p99: f64,
    hours: f64,
    present: bool,
    chosen: bool,
    end: f64,
    /// Time, waiting jobs, jobs in flight, and instances running, pending, and stopping or stopped.
    samples: Vec<(f64, u64, u64, usize, usize, usize)>,
    /// Arrival and end-to-end latency.
    jobs: Vec<(f64, f64)>,
}

/// Returns the page. Simulates the points again for their histories.
///
/// # Errors
/// A configuration is not allowed.
pub fn page(tuned: &Tuned, cloud: &Cloud<'_>, threads: usize) -> Result<String> {
    let points = parallel::map(&shown(tuned), threads, |trial| point(trial, tuned, cloud));
    let data = Data {
        title: format!("{}: cost and waiting", tuned.trace),
        summary: saving(tuned),
        all: &tuned.all,
        points: points.into_iter().collect::<Result<_>>()?,
    };
    // Inside of a script element, "</" would end it.
    Ok(PAGE.replace(DATA, &serde_json::to_string(&data)?.replace("</", "<\\/")))
}

fn point(trial: &Trial, tuned: &Tuned, cloud: &Cloud<'_>) -> Result<Point> {
    let history = cloud.run(&trial.settings, cloud.seed)?.history;
    Ok(Point {
        name: name(trial),
        cost: trial.cost,
        p99: trial.p99_s,
        hours: trial.waiting_hours,
        present: *trial == tuned.present,
        chosen: *trial == tuned.chosen,
        end: tenths(history.end.as_secs_f64()),
        samples: samples(&history),
        jobs: jobs(&history),
    })
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn samples(history: &History) -> Vec<(f64, u64, u64, usize, usize, usize)> {
    let each = history.samples.len().div_ceil(MAX_SAMPLES).max(1);
    let of = |chunk: &[crate::simulator::Sample]| {
        let most = |value: fn(&crate::simulator::Sample) -> usize| chunk.iter().map(value).max().unwrap_or(0);
        (
            tenths(chunk.first().map_or(0.0, |sample| sample.at.as_secs_f64())),
            most(|s| s.waiting as usize) as u64,
            most(|s| s.in_flight as usize) as u64,
            most(|s| s.running),
            most(|s| s.pending),
            most(|s| s.stopping + s.stopped),
        )
    };
    history.samples.chunks(each).map(of).collect()
}

/// Returns the jobs, of many the slowest of each interval.
fn jobs(history: &History) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = history
        .jobs
        .iter()
        .filter_map(|job| {
            let latency = job.answered?.saturating_sub(job.arrived);
            Some((tenths(job.arrived.as_secs_f64()), (latency.as_secs_f64() * 1e3).round() / 1e3))
        })
        .collect();
    let each = all.len().div_ceil(MAX_JOBS).max(1);
    all.chunks(each).filter_map(|chunk| chunk.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))).collect()
}

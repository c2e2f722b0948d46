//! Plots of a run, as SVG. All runs of a comparison share their axes.

use anyhow::Result;
use plotters::{coord::Shift, prelude::*};

use crate::simulator::{History, Run, Sample};

const SIZE: (u32, u32) = (560, 260);
/// Maximum number of points of a curve: more cannot be distinguished.
const POINTS: usize = 1200;

const WAITING: RGBColor = RGBColor(192, 57, 43);
const IN_FLIGHT: RGBColor = RGBColor(41, 128, 185);
const PENDING: RGBColor = RGBColor(243, 156, 18);
const RUNNING: RGBColor = RGBColor(39, 174, 96);
const STOPPING: RGBColor = RGBColor(127, 140, 141);
const STOPPED: RGBColor = RGBColor(189, 195, 199);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A curve's name, its colour, and its value.
type Curve = (&'static str, RGBColor, fn(&Sample) -> usize);

/// The maxima of the axes, over all runs.
#[derive(Clone, Copy, Debug)]
pub struct Axes {
    end_s: f64,
    jobs: f64,
    instances: f64,
    latency_s: f64,
}

impl Axes {
    pub fn of(runs: &[Run]) -> Self {
        let max = |value: fn(&History) -> f64| runs.iter().map(|run| value(&run.history)).fold(1.0, f64::max);
        let all = |s: &Sample| s.pending + s.running + s.stopping + s.stopped;
        Self {
            end_s: max(|h| h.end.as_secs_f64()),
            jobs: 1.05 * max(|h| h.samples.iter().map(|s| s.waiting.max(s.in_flight)).max().unwrap_or(0) as f64),
            instances: 1.05
                * runs.iter().flat_map(|run| run.history.samples.iter().map(all)).max().unwrap_or(1).max(1) as f64,
            latency_s: 1.05 * max(|h| latencies(h).map(|(_, latency)| latency).fold(1.0, f64::max)),
        }
    }
}

/// Returns the arrival and the end-to-end latency of each answered job, in seconds.
fn latencies(history: &History) -> impl Iterator<Item = (f64, f64)> {
    history.jobs.iter().filter_map(|job| {
        let latency = job.answered?.saturating_sub(job.arrived);
        Some((job.arrived.as_secs_f64(), latency.as_secs_f64()))
    })
}

/// Plots the jobs that wait and the jobs in flight.
pub fn queue(run: &Run, axes: Axes) -> Result<String> {
    let curves: [Curve; 2] =
        [("waiting", WAITING, |s| s.waiting as usize), ("in flight", IN_FLIGHT, |s| s.in_flight as usize)];
    svg(|area| {
        let mut chart = chart(area, "jobs", axes.end_s, axes.jobs)?;
        for (name, colour, value) in curves {
            let steps = steps(&run.history, |s| value(s) as f64);
            legend(chart.draw_series(LineSeries::new(steps, colour.stroke_width(1)))?, name, colour);
        }
        labels(&mut chart)
    })
}

/// Plots the instances by state, stacked.
pub fn instances(run: &Run, axes: Axes) -> Result<String> {
    let curves: [Curve; 4] = [
        ("stopped", STOPPED, |s| s.running + s.pending + s.stopping + s.stopped),
        ("stopping", STOPPING, |s| s.running + s.pending + s.stopping),
        ("pending", PENDING, |s| s.running + s.pending),
        ("running", RUNNING, |s| s.running),
    ];
    svg(|area| {
        let mut chart = chart(area, "instances", axes.end_s, axes.instances)?;
        for (name, colour, value) in curves {
            let steps = steps(&run.history, |s| value(s) as f64);
            legend(chart.draw_series(AreaSeries::new(steps, 0.0, colour.filled()))?, name, colour);
        }
        labels(&mut chart)
    })
}

/// Plots the time from each upload to its response.
pub fn latency(run: &Run, axes: Axes) -> Result<String> {
    let jobs: Vec<_> = latencies(&run.history).collect();
    let each = jobs.len().div_ceil(POINTS).max(1);
    svg(|area| {
        let mut chart = chart(area, "latency, s", axes.end_s, axes.latency_s)?;
        let points = jobs.into_iter().step_by(each).map(|at| Circle::new(at, 2, IN_FLIGHT.filled()));
        chart.draw_series(points)?;
        Ok(())
    })
}

fn svg(draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut out = String::new();
    {
        let area = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(out)
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// Draws the axes and the grid. The unit of time depends on the length of the run.
fn chart<'a, 'b>(area: &'a Area<'b>, quantity: &str, end_s: f64, max: f64) -> Result<Chart<'a, 'b>> {
    let (unit, seconds) = if end_s > 2.0 * 86_400.0 {
        ("days", 86_400.0)
    } else if end_s > 7200.0 {
        ("hours", 3600.0)
    } else {
        ("seconds", 1.0)
    };
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(34)
        .y_label_area_size(44)
        .build_cartesian_2d(0.0..end_s, 0.0..max)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(8)
        .y_labels(6)
        .x_desc(unit)
        .y_desc(quantity)
        .x_label_formatter(&|s| format!("{:.1}", s / seconds).trim_end_matches(".0").to_owned())
        .y_label_formatter(&|n| format!("{n:.0}"))
        .draw()?;
    Ok(chart)
}

fn legend(series: &mut plotters::chart::SeriesAnno<'_, SVGBackend<'_>>, name: &str, colour: RGBColor) {
    series.label(name).legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 10, y + 4)], colour.filled()));
}

fn labels<'b: 'a, 'a>(chart: &mut Chart<'a, 'b>) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .legend_area_size(14)
        .draw()?;
    Ok(())
}

/// Returns a step function that holds each value until the next. A long run is divided into equal intervals, each of
/// which shows its maximum, so that no peak is lost.
fn steps(history: &History, value: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let end = history.end.as_secs_f64();
    let mut points: Vec<(f64, f64)> = history.samples.iter().map(|s| (s.at.as_secs_f64(), value(s))).collect();
    if points.len() > POINTS {
        points = interval_maxima(&points, end);
    }
    let mut curve = Vec::with_capacity(2 * points.len() + 1);
    for (at, value) in points {
        if let Some((_, before)) = curve.last().copied() {
            curve.push((at, before));
        }
        curve.push((at, value));
    }
    if let Some((_, last)) = curve.last().copied() {
        curve.push((end, last));
    }
    curve
}

/// Returns the maximum of each of [`POINTS`] equal intervals.
fn interval_maxima(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let (mut next, mut value) = (0, 0.0);
    let width = end / POINTS as f64;
    (0..POINTS)
        .map(|n| {
            let until = (n + 1) as f64 * width;
            let mut top: f64 = value;
            while let Some((at, v)) = points.get(next).filter(|(at, _)| *at < until) {
                (top, value) = (if *at <= until - width { *v } else { top.max(*v) }, *v);
                next += 1;
            }
            (until - width, top)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_peak_survives_downsampling() {
        let mut points: Vec<(f64, f64)> = (0..5000).map(|n| (f64::from(n), 1.0)).collect();
        points[3001].1 = 50.0;
        let sampled = interval_maxima(&points, 5000.0);
        assert_eq!(sampled.len(), POINTS);
        assert_eq!(sampled.iter().filter(|(_, v)| *v == 50.0).count(), 1);
    }
}

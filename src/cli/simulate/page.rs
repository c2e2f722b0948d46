//! The page that compares the runs.

use anyhow::Result;

use crate::{
    cli::report_page::{Column, PageRun, ReportPage, Timeline},
    simulator::{Report, Run},
};

/// The figures of a run that the table has.
type Figure = (Column, fn(&Report) -> Option<f64>);

const FIGURES: [Figure; 13] = [
    (column("cost", ""), |r| Some(r.cost)),
    (column("times the least cost", ""), Report::distance),
    (column("wait p50", "s"), |r| Some(r.wait_s.p50)),
    (column("wait p90", "s"), |r| Some(r.wait_s.p90)),
    (column("wait p99", "s"), |r| Some(r.wait_s.p99)),
    (column("latency p50", "s"), |r| Some(r.end_to_end_s.p50)),
    (column("latency p99", "s"), |r| Some(r.end_to_end_s.p99)),
    (column("makespan", "s"), |r| Some(r.makespan_s)),
    (column("waited", "h"), |r| Some(r.waiting_hours)),
    (column("billed", "s"), |r| Some(r.billed_instance_s)),
    (column("launches", ""), |r| Some(r.launches as f64)),
    (column("starts", ""), |r| Some(r.starts as f64)),
    (column("most instances", ""), |r| Some(r.peak_instances as f64)),
];

const fn column(name: &'static str, unit: &'static str) -> Column {
    Column { name, unit }
}

/// Returns the page.
///
/// # Errors
/// It cannot be written as JSON.
pub fn page(runs: &[Run]) -> Result<String> {
    let first = runs.first().map(|run| &run.report);
    let title = first.map_or_else(String::new, |r| format!("{}, seed {}", r.trace, r.seed));
    let requests =
        first.map(|r| format!("{} requests, simulated. Costs are in the currency of the prices.", r.requests));
    let page = ReportPage {
        command: "simulate",
        title,
        notes: requests.into_iter().collect(),
        columns: FIGURES.map(|(column, _)| column).into(),
        runs: runs.iter().map(page_run).collect(),
        facts: Vec::new(),
    };
    page.html()
}

fn page_run(run: &Run) -> PageRun {
    let report = &run.report;
    PageRun {
        name: report.label.clone(),
        figures: FIGURES.iter().map(|(_, value)| value(report)).collect(),
        point: Some((report.cost, report.wait_s.p99)),
        timeline: Timeline::of_simulation(&run.history, run.history.end),
    }
}

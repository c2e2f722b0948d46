//! The page of a load run: what was measured, beside what the simulator predicts.

use std::time::Duration;

use anyhow::Result;

use super::{fleet::FleetResponse, prediction::predict, report::Report};
use crate::{
    cli::report_page::{Column, PageRun, ReportPage, Timeline},
    settings::{CloudKind, Settings},
    simulator,
};

const COLUMNS: [Column; 8] = [
    Column { name: "makespan", unit: "s" },
    Column { name: "completed", unit: "" },
    Column { name: "failed", unit: "" },
    Column { name: "images", unit: "per s" },
    Column { name: "latency p50", unit: "ms" },
    Column { name: "latency p90", unit: "ms" },
    Column { name: "latency p99", unit: "ms" },
    Column { name: "most instances", unit: "" },
];

/// Returns the page. `fleet` is the fleet before and after the load; without it, nothing is predicted.
///
/// # Errors
/// It cannot be written as JSON.
pub(super) fn page(report: &Report, fleet: Option<&[FleetResponse; 2]>, settings: &Settings) -> Result<String> {
    let mut page = ReportPage {
        command: "load",
        title: format!("{} uploads, {} at a time", report.requests, report.concurrency),
        notes: vec![format!("{}, {} photos.", report.url, report.photos)],
        columns: COLUMNS.into(),
        runs: vec![measured(report)],
        facts: Vec::new(),
    };
    page.notes.extend(report.failed.iter().map(|(kind, count)| format!("Failed: {count} {kind}.")));
    page.notes.extend(report.failures.iter().map(|f| format!("{}: {}: {}", f.photo, f.kind, f.message)));
    if let Some([before, after]) = fleet {
        let run = predict(settings, before, after, &report.uploads);
        let difference = run.report.makespan_s * 1e3 / report.makespan_ms.max(1e-9) - 1.0;
        page.notes.push(format!(
            "The simulator predicts a makespan of {:.2} s, {:+.0} % of what was measured, with the boot and job \
             times that the fleet has learned, for the same arrivals: also where the clients had to wait for a response before \
             the next upload.",
            run.report.makespan_s,
            difference * 100.0
        ));
        if before.counts.running + before.counts.pending > 0 {
            page.notes.push(format!(
                "{} instances ran or booted when the load began; the simulator begins with as many stopped ones.",
                before.counts.running + before.counts.pending
            ));
        }
        let end = Duration::from_secs_f64((report.makespan_ms / 1e3).max(run.report.makespan_s));
        page.runs.push(predicted(&run, end));
        page.facts = facts(after, settings);
    }
    page.html()
}

fn measured(report: &Report) -> PageRun {
    let samples: Vec<simulator::Sample> = report.fleet.iter().map(Into::into).collect();
    let end = samples.last().map_or(Duration::ZERO, |sample| sample.at);
    let end = end.max(Duration::from_secs_f64(report.makespan_ms / 1e3));
    let latency = |of: fn(&super::report::Latency) -> f64| report.latency_ms.as_ref().map(of);
    let most = samples.iter().map(|sample| sample.pending + sample.running).max();
    PageRun {
        name: "measured".into(),
        figures: vec![
            Some(report.makespan_ms / 1e3),
            Some(report.completed as f64),
            Some((report.requests - report.completed) as f64),
            Some(report.images_per_second),
            latency(|l| l.p50),
            latency(|l| l.p90),
            latency(|l| l.p99),
            most.map(|most| most as f64),
        ],
        point: None,
        timeline: Timeline::new(end, &samples, &report.uploads),
    }
}

fn predicted(run: &simulator::Run, end: Duration) -> PageRun {
    let r = &run.report;
    let ms = |seconds: f64| Some(seconds * 1e3);
    PageRun {
        name: "predicted".into(),
        figures: vec![
            Some(r.makespan_s),
            Some(r.completed as f64),
            Some((r.requests - r.completed) as f64),
            (r.makespan_s > 0.0).then(|| r.completed as f64 / r.makespan_s),
            ms(r.end_to_end_s.p50),
            ms(r.end_to_end_s.p90),
            ms(r.end_to_end_s.p99),
            Some(r.peak_instances as f64),
        ],
        point: None,
        timeline: Timeline::of_simulation(&run.history, end),
    }
}

/// Returns what the prediction depends on.
fn facts(fleet: &FleetResponse, settings: &Settings) -> Vec<(String, String)> {
    let time = |time: Duration| humantime::format_duration(Duration::from_micros(time.as_micros() as u64)).to_string();
    let learned = &fleet.learned;
    let cloud = match settings.cloud.kind {
        CloudKind::Local => "local",
        CloudKind::Aws => "aws",
    };
    [
        ("cloud.kind", cloud.to_owned()),
        ("fleet.policy", fleet.policy.clone()),
        ("fleet.max_instances", fleet.max_instances.to_string()),
        ("worker.threads", settings.worker.threads.to_string()),
        ("worker.idle_stop", time(settings.worker.idle_stop)),
        ("boot of a new instance, learned", time(learned.boot_cold)),
        ("boot of a stopped instance, learned", time(learned.boot_warm)),
        ("time of a job on a thread, learned", time(learned.service)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

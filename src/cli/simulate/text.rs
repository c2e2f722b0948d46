//! The report as text: one line per figure, one column per run.

use std::fmt::Write as _;

use crate::simulator::{Quantiles, Report};

fn quantiles(q: Quantiles) -> String {
    format!("{:.2} / {:.2} / {:.2} / {:.2}", q.p50, q.p90, q.p99, q.max)
}

type Line = (&'static str, fn(&Report) -> String);

const LINES: [Line; 18] = [
    ("run", |r| r.label.clone()),
    ("answered", |r| format!("{} of {}", r.completed, r.requests)),
    ("makespan s", |r| format!("{:.2}", r.makespan_s)),
    ("wait s (p50 / p90 / p99 / max)", |r| quantiles(r.wait_s)),
    ("hours waited", |r| format!("{:.2}", r.waiting_hours)),
    ("end to end s (the same)", |r| quantiles(r.end_to_end_s)),
    ("billed instance s", |r| format!("{:.0}", r.billed_instance_s)),
    ("stopped hours", |r| format!("{:.2}", r.stopped_hours)),
    ("cost", |r| format!("{:.4}", r.cost)),
    ("  instances / disks / queues", |r| {
        let c = r.cost_parts;
        format!("{:.4} / {:.4} / {:.4}", c.instances, c.disks, c.queues)
    }),
    ("least cost at this p99 / times it", |r| match (r.least_cost, r.distance()) {
        (Some(least), Some(times)) => format!("{least:.4} / {times:.2}"),
        _ => "-".to_owned(),
    }),
    ("launched / started / terminated", |r| format!("{} / {} / {}", r.launches, r.starts, r.terminations)),
    ("most instances at once", |r| r.peak_instances.to_string()),
    ("calls launch / start / terminate", |r| {
        let c = r.api_calls;
        format!("{} / {} / {}", c.launch, c.start, c.terminate)
    }),
    ("      describe / stop", |r| format!("{} / {}", r.api_calls.describe, r.api_calls.stop)),
    ("      depth / send", |r| format!("{} / {}", r.api_calls.depth, r.api_calls.send)),
    ("      receive / delete", |r| format!("{} / {}", r.api_calls.receive, r.api_calls.delete)),
    ("throttled / no capacity", |r| format!("{} / {}", r.throttles, r.capacity_errors)),
];

/// Returns the figures of all runs, side by side.
pub fn text(reports: &[&Report]) -> String {
    let mut out = String::new();
    if let Some(first) = reports.first() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "trace {}, seed {}, {:.0} s simulated", first.trace, first.seed, first.simulated_s);
    }
    let cells: Vec<Vec<String>> = reports.iter().map(|r| LINES.iter().map(|(_, value)| value(r)).collect()).collect();
    let widths: Vec<usize> =
        cells.iter().map(|column| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    for (row, (name, _)) in LINES.iter().enumerate() {
        let mut line = format!("{name:<34}");
        for (column, width) in cells.iter().zip(&widths) {
            let _ = write!(line, "{:<width$}  ", column[row]);
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

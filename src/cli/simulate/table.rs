//! Writes the comparison as Markdown tables into a document.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;

use crate::simulator::{Report, Run};

/// A table, and the marker of its place in a document.
struct Table {
    name: &'static str,
    rows: fn(&[&Report]) -> String,
}

const TABLES: [Table; 2] = [Table { name: "simulate", rows: costs }, Table { name: "simulate calls", rows: calls }];

/// Replaces the text between the markers of each table that the document has.
///
/// # Errors
/// The file cannot be read or written, or has no markers.
pub fn update(file: &Path, runs: &[Run]) -> anyhow::Result<()> {
    let reports: Vec<&Report> = runs.iter().map(|run| &run.report).collect();
    let old = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut new: Option<String> = None;
    for table in &TABLES {
        let text = new.as_ref().unwrap_or(&old);
        new = replaced(text, table.name, &(table.rows)(&reports)).or(new);
    }
    let new = new.with_context(|| {
        let [name, other] = [0, 1].map(|table| TABLES[table].name);
        format!(
            "{} contains neither the lines <!-- {name} --> and <!-- /{name} --> nor <!-- {other} --> and <!-- /{other} -->",
            file.display()
        )
    })?;
    std::fs::write(file, new).with_context(|| format!("cannot write {}", file.display()))
}

pub(in crate::cli) fn replaced(old: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    let (before, rest) = old.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{table}\n{end}{after}"))
}

fn costs(reports: &[&Report]) -> String {
    let mut out = String::from(
        "| policy | wait s p50 | p90 | p99 | max | billed instance-hours | stopped hours | launches + starts | cost $ | times the least |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for r in reports {
        let (w, hours) = (r.wait_s, r.billed_instance_s / 3600.0);
        let times = r.distance().map_or_else(String::new, |times| format!("{times:.1}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {hours:.1} | {:.0} | {} + {} | {:.2} | {times} |",
            r.label, w.p50, w.p90, w.p99, w.max, r.stopped_hours, r.launches, r.starts, r.cost
        );
    }
    out
}

fn calls(reports: &[&Report]) -> String {
    let mut out = String::from(
        "| calls allowed per second | refused | most sends per second | receives | deletions | replies | makespan s | \
         wait s p50 | p99 | instances | cost $ |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for r in reports {
        let peak = r.peak_per_second;
        let counts = [r.queue_quota as u64, r.queue_throttles, peak.send, peak.receive, peak.delete, peak.replies];
        let counts = counts.map(grouped).join(" | ");
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {counts} | {:.1} | {:.1} | {:.1} | {} | {:.2} |",
            r.makespan_s,
            r.wait_s.p50,
            r.wait_s.p99,
            grouped(r.peak_instances as u64),
            r.cost
        );
    }
    out
}

/// Writes a number with a comma between thousands.
fn grouped(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let old = "before\n<!-- simulate -->\nold\n<!-- /simulate -->\nafter\n";
        let new = replaced(old, "simulate", "new\n").expect("the markers are present");
        assert_eq!(new, "before\n<!-- simulate -->\n\nnew\n\n<!-- /simulate -->\nafter\n");
        assert_eq!(replaced(&new, "simulate", "new\n").as_deref(), Some(new.as_str()));
        assert_eq!(replaced(old, "simulate calls", "new"), None);
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!([0, 999, 1_000, 70_005, 1_000_000].map(grouped), ["0", "999", "1,000", "70,005", "1,000,000"]);
    }
}

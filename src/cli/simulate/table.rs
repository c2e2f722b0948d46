//! Writes the comparison as a Markdown table into a document.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;

use crate::simulator::{Report, Run};

const BEGIN: &str = "<!-- simulate -->\n";
const END: &str = "<!-- /simulate -->";

/// Replaces the text between the markers.
///
/// # Errors
/// The file cannot be read or written, or has no markers.
pub fn update(file: &Path, runs: &[Run]) -> anyhow::Result<()> {
    let old = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let new = replaced(&old, &table(runs.iter().map(|run| &run.report)))
        .with_context(|| format!("{} does not contain the lines {} and {END}", file.display(), BEGIN.trim_end()))?;
    std::fs::write(file, new).with_context(|| format!("cannot write {}", file.display()))
}

fn replaced(old: &str, table: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

fn table<'a>(reports: impl Iterator<Item = &'a Report>) -> String {
    let mut out = String::from(
        "| policy | wait s p50 | p90 | p99 | max | billed instance-hours | stopped hours | launches + starts | cost $ |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for r in reports {
        let (w, hours) = (r.wait_s, r.billed_instance_s / 3600.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {hours:.1} | {:.0} | {} + {} | {:.2} |",
            r.label, w.p50, w.p90, w.p99, w.max, r.stopped_hours, r.launches, r.starts, r.cost
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_markers_is_replaced() {
        let old = "before\n<!-- simulate -->\nold\n<!-- /simulate -->\nafter\n";
        let new = replaced(old, "new\n").expect("the markers are present");
        assert_eq!(new, "before\n<!-- simulate -->\n\nnew\n\n<!-- /simulate -->\nafter\n");
        assert_eq!(replaced(&new, "new\n").as_deref(), Some(new.as_str()));
        assert_eq!(replaced("no markers", "new"), None);
    }
}

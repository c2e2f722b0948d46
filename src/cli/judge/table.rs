//! The verdicts as Markdown.

use std::{fmt::Write as _, ops::RangeInclusive};

use super::{
    outcome::BASELINES,
    verdict::{Baseline, Judged, Verdict},
};

/// Returns the tables: by price of waiting, then by p99 of waiting.
pub fn tables(verdicts: &[Verdict], seeds: &RangeInclusive<u64>) -> String {
    let Some(first) = verdicts.first() else { return String::new() };
    let mut out = format!("Seeds {} to {}.\n", seeds.start(), seeds.end());
    let judged = first.policy.as_deref();
    // Writing to a String cannot fail.
    for n in 0..first.priced.len() {
        let _ = writeln!(
            out,
            "\nWaiting at {} $ per job-hour: cost and priced waiting, $, median.\n",
            first.priced[n].wait_price
        );
        head(&mut out, judged, &["within 1.05 of the best"]);
        for verdict in verdicts {
            let priced = &verdict.priced[n];
            row(
                &mut out,
                &verdict.trace,
                &priced.baselines,
                |b| format!("{:.3}", b.median),
                priced.judged.as_ref(),
                |j| format!("{} of {}", j.as_good, j.seeds),
            );
        }
    }
    for n in 0..first.targets.len() {
        let _ = writeln!(
            out,
            "\nA p99 of waiting of {} s: cost, $, median, and on how many seeds the p99 is held.\n",
            first.targets[n].target_wait_s
        );
        head(&mut out, judged, &["held", "and within 1.05 of the cheapest that holds it"]);
        for verdict in verdicts {
            let target = &verdict.targets[n];
            let cell = |b: &Baseline| format!("{:.3} ({})", b.median, b.held);
            row(&mut out, &verdict.trace, &target.baselines, cell, target.judged.as_ref(), |j| {
                format!("{} of {} | {} of {}", j.held, j.seeds, j.as_good, j.seeds)
            });
        }
    }
    out
}

fn head(out: &mut String, judged: Option<&str>, counts: &[&str]) {
    let mut columns = vec!["trace"];
    columns.extend(BASELINES);
    if let Some(judged) = judged {
        columns.push(judged);
        columns.extend(counts);
        columns.extend(["ratio, median", "worst", "times the least cost"]);
    }
    let rule = format!("|---|{}", "--:|".repeat(columns.len() - 1));
    let _ = writeln!(out, "| {} |\n{rule}", columns.join(" | "));
}

fn row(
    out: &mut String,
    trace: &str,
    baselines: &[Baseline],
    cell: impl Fn(&Baseline) -> String,
    judged: Option<&Judged>,
    counts: impl Fn(&Judged) -> String,
) {
    let mut cells = vec![format!("`{trace}`")];
    cells.extend(baselines.iter().map(cell));
    if let Some(judged) = judged {
        let number = |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.2}"));
        cells.push(format!("{:.3}", judged.median));
        cells.push(counts(judged));
        cells.extend([judged.ratio_median, judged.ratio_worst, judged.distance].map(number));
    }
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

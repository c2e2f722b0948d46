//! A thousand instances do 10,000 images per second, whatever a region allows: docs/scale.md states the arithmetic, and the
//! simulator confirms it for a million jobs.

use std::{path::Path, process::Command};

use rollcall::simulator::Report;

const DOCUMENT: &str = "docs/scale.md";
/// Quotas of the regions, calls per second.
const QUOTAS: [&str; 3] = ["70000", "9000", "2400"];
/// A figure of the document, by the words with which its row begins, and how the simulator has it.
type Figure = (&'static str, fn(&Report) -> f64);
const FIGURES: [Figure; 4] = [
    ("jobs that the workers do", |r| r.peak_per_second.replies as f64),
    ("sends to the request queue", |r| r.peak_per_second.send as f64),
    ("receives, if each returns one job", |r| r.peak_per_second.receive as f64),
    ("seconds from the first upload to the last response", |r| r.makespan_s),
];
/// How far a figure may be from the arithmetic, which knows no boots that take longer than others.
const TOLERANCE: f64 = 0.1;

/// Runs the command of the document on a copy of it. Returns the copy and the reports.
fn simulated(folder: &Path) -> (String, Vec<Report>) {
    let copy = folder.join("scale.md");
    std::fs::copy(DOCUMENT, &copy).expect("the document is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rollcall"));
    command.args(["--config", "config/scale.toml", "simulate", "--trace", "steady-10000-100", "--json", "--update"]);
    command.arg(&copy).args(QUOTAS.iter().flat_map(|quota| ["--queue-quota", quota]));
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reports = serde_json::from_slice(&output.stdout).expect("a list of reports");
    (std::fs::read_to_string(copy).expect("the copy"), reports)
}

/// Returns the expressions of a text, such as `10 / 0.02 = 500`, with what they are and what they state.
fn expressions(text: &str) -> impl Iterator<Item = (&str, f64, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| {
        let (terms, stated) = code.split_once(" = ")?;
        Some((code, value(terms)?, stated))
    })
}

fn number(text: &str) -> Option<f64> {
    text.replace(',', "").parse().ok()
}

/// Evaluates sums of products, such as `2 · 3 + 4 / 5`.
fn value(terms: &str) -> Option<f64> {
    let mut words = terms.split(' ');
    let (mut sum, mut product) = (0.0, number(words.next()?)?);
    while let (Some(operator), operand) = (words.next(), words.next()) {
        let operand = number(operand?)?;
        match operator {
            "·" => product *= operand,
            "/" => product /= operand,
            "+" => (sum, product) = (sum + product, operand),
            "-" => (sum, product) = (sum + product, -operand),
            _ => return None,
        }
    }
    Some(sum + product)
}

#[test]
fn the_arithmetic_of_the_document_is_right() {
    assert_eq!(["2 · 3 + 8 / 4", "1,000 - 2 · 3", "x = 3"].map(value), [Some(8.0), Some(994.0), None]);
    let document = std::fs::read_to_string(DOCUMENT).expect("the document is there");
    let mut count = 0;
    for (code, value, stated) in expressions(&document) {
        let decimals = stated.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let rounded = format!("{value:.decimals$}");
        assert_eq!(number(&rounded), number(stated), "{code}");
        count += 1;
    }
    assert!(count >= 20, "{count} expressions");
}

#[test]
fn a_million_jobs_on_a_thousand_instances_confirm_the_arithmetic_in_every_region() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (copy, reports) = simulated(folder.path());
    let document = std::fs::read_to_string(DOCUMENT).expect("the document is there");
    assert!(copy == document, "the table of {DOCUMENT} is not that of `make scale`:\n{copy}");
    let [most, _, least] = &reports[..] else { panic!("{} reports", reports.len()) };
    for (what, figure) in FIGURES {
        let row = document.lines().find(|line| line.starts_with(&format!("| {what}"))).expect(what);
        let (code, expected, _) = expressions(row).next().expect("arithmetic");
        let figure = figure(most);
        assert!((figure / expected - 1.0).abs() < TOLERANCE, "{what}: `{code}`, and {figure} in the simulator");
    }
    for report in &reports {
        assert_eq!((report.requests, report.completed, report.peak_instances), (1_000_000, 1_000_000, 1_000));
        assert_eq!((report.api_calls.launch, report.launches), (1, 1_000), "all in one call, within EC2's limits");
    }
    assert_eq!(most.queue_throttles, 0, "10,000 images per second are within the largest quota");
    assert!(least.queue_throttles > 0, "the smallest quota is less than a call for each job");
    assert!(least.makespan_s < 1.05 * most.makespan_s, "{} s and {} s", least.makespan_s, most.makespan_s);
}

//! What a load run found.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    client::{Retries, Upload},
    fleet,
    verify::StoreCheck,
};
use crate::recognition::{NO_FACE, UNKNOWN};

/// Wrong answers and failures that are listed one by one.
const LISTED: usize = 20;

/// The report; with `--json` this is what is printed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub url: String,
    /// Uploads asked for, and how many of them at once.
    pub requests: usize,
    pub concurrency: usize,
    /// Different photos among them.
    pub photos: usize,
    /// Uploads answered with a label.
    pub completed: usize,
    /// The others by kind: `connection`, `timeout`, `http 415`, `photo` (unreadable here).
    pub failed: BTreeMap<String, usize>,
    /// The first of them.
    pub failures: Vec<FailedUpload>,
    pub retries: Retries,
    /// Absent without `--expected` or `--expect-folder`.
    pub answers: Option<Answers>,
    /// Absent if nothing was completed.
    pub latency_ms: Option<Latency>,
    /// Completed uploads in each second of the makespan.
    pub images_per_second: f64,
    /// From the first upload to the last answer.
    pub makespan_ms: f64,
    /// The fleet every 200 ms; empty where the server shows none.
    pub fleet: Vec<fleet::Sample>,
    /// Absent with `--no-verify`, and where the server does not name its jobs.
    pub store: Option<StoreCheck>,
}

/// Answers against what was expected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    pub correct: usize,
    /// Another name than the expected one.
    pub wrong: usize,
    /// `unknown` or `no face` where a name was expected.
    pub unknown: usize,
    /// Photos of which nothing is expected.
    pub unlisted: usize,
    /// The first wrong and unknown ones.
    pub mismatches: Vec<Mismatch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    pub photo: String,
    pub expected: String,
    pub answered: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedUpload {
    pub photo: String,
    pub kind: String,
    pub message: String,
}

/// Milliseconds from an upload's first attempt to its answer, to three digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Report {
    /// Everything completed, nothing answered wrong, nothing missing from the store.
    pub fn is_good(&self) -> bool {
        self.completed == self.requests
            && self.answers.as_ref().is_none_or(|a| a.wrong + a.unknown == 0)
            && self.store.as_ref().is_none_or(StoreCheck::is_complete)
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let Self { completed, requests, concurrency, photos, url, .. } = self;
        writeln!(out, "completed  {completed} of {requests} ({concurrency} at a time, {photos} photos) at {url}")?;
        for (kind, count) in &self.failed {
            writeln!(out, "failed     {count} {kind}")?;
        }
        for f in &self.failures {
            writeln!(out, "           {}: {}: {}", f.photo, f.kind, f.message)?;
        }
        if self.retries != Retries::default() {
            let Retries { busy, connection } = self.retries;
            writeln!(out, "retried    {busy} after 503, {connection} after a broken connection")?;
        }
        if let Some(a) = &self.answers {
            write!(out, "correct    {} ({} wrong, {} unknown", a.correct, a.wrong, a.unknown)?;
            writeln!(out, "{})", if a.unlisted > 0 { format!(", {} not listed", a.unlisted) } else { String::new() })?;
            for m in &a.mismatches {
                writeln!(out, "           {}: {} expected, {} answered", m.photo, m.expected, m.answered)?;
            }
        }
        if let Some(l) = self.latency_ms {
            writeln!(out, "latency    p50 {:.1}, p90 {:.1}, p99 {:.1}, max {:.1} ms", l.p50, l.p90, l.p99, l.max)?;
        }
        writeln!(out, "rate       {:.1} images/s over {:.2} s", self.images_per_second, self.makespan_ms / 1e3)?;
        match &self.store {
            Some(store) => out.push_str(&store.text()),
            None => writeln!(out, "store      not checked")?,
        }
        if !self.fleet.is_empty() {
            write!(out, "\ninstances over time\n{}", fleet::table(&self.fleet))?;
        }
        Ok(())
    }
}

/// Counts uploads as they end.
pub struct Tally {
    completed: usize,
    failed: BTreeMap<String, usize>,
    failures: Vec<FailedUpload>,
    retries: Retries,
    answers: Option<Answers>,
    /// Microseconds.
    latency: Histogram<u64>,
}

impl Tally {
    /// `expecting`: whether answers are compared.
    pub fn new(expecting: bool) -> Self {
        Self {
            completed: 0,
            failed: BTreeMap::new(),
            failures: Vec::new(),
            retries: Retries::default(),
            answers: expecting.then(Answers::default),
            // Up to an hour: recording with saturation never makes the range wider.
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds"), // constants
        }
    }

    pub fn completed(&self) -> usize {
        self.completed
    }

    pub fn add(&mut self, photo: &str, expected: Option<&str>, upload: &Upload) {
        self.retries.busy += upload.retries.busy;
        self.retries.connection += upload.retries.connection;
        match &upload.outcome {
            Ok(answer) => {
                self.completed += 1;
                self.latency.saturating_record(upload.took.as_micros() as u64);
                if let Some(answers) = &mut self.answers {
                    answers.add(photo, expected, &answer.label);
                }
            }
            Err(failed) => {
                *self.failed.entry(failed.kind.clone()).or_default() += 1;
                if self.failures.len() < LISTED {
                    let (kind, message) = (failed.kind.clone(), failed.message.clone());
                    self.failures.push(FailedUpload { photo: photo.to_owned(), kind, message });
                }
            }
        }
    }

    fn latency(&self) -> Option<Latency> {
        let at = |q| self.latency.value_at_quantile(q) as f64 / 1e3;
        let max = self.latency.max() as f64 / 1e3;
        // A bucket is named by its upper end, which may lie above the largest value in it.
        let at = |q| f64::min(at(q), max);
        (self.completed > 0).then(|| Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), max })
    }

    /// The report, still without fleet and store.
    pub fn report(self, url: String, (requests, concurrency): (usize, usize), photos: usize, took: Duration) -> Report {
        Report {
            url,
            requests,
            concurrency,
            photos,
            latency_ms: self.latency(),
            completed: self.completed,
            failed: self.failed,
            failures: self.failures,
            retries: self.retries,
            answers: self.answers,
            images_per_second: self.completed as f64 / took.as_secs_f64().max(1e-9),
            makespan_ms: took.as_secs_f64() * 1e3,
            fleet: Vec::new(),
            store: None,
        }
    }
}

impl Answers {
    fn add(&mut self, photo: &str, expected: Option<&str>, answered: &str) {
        let Some(expected) = expected else {
            self.unlisted += 1;
            return;
        };
        if answered == expected {
            self.correct += 1;
            return;
        }
        match answered {
            UNKNOWN | NO_FACE => self.unknown += 1,
            _ => self.wrong += 1,
        }
        if self.mismatches.len() < LISTED {
            let (photo, expected) = (photo.to_owned(), expected.to_owned());
            self.mismatches.push(Mismatch { photo, expected, answered: answered.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::load::client::{Answer, Failed};

    fn answered(label: &str, took: Duration) -> Upload {
        Upload { outcome: Ok(Answer { label: label.into(), id: None }), took, retries: Retries::default() }
    }

    fn report(tally: Tally, requests: usize) -> Report {
        tally.report("http://x/".into(), (requests, 1), requests, Duration::from_secs(2))
    }

    #[test]
    fn percentiles_are_of_completed_uploads_only() {
        let mut tally = Tally::new(false);
        for ms in 1..=100 {
            tally.add("x.jpg", None, &answered("Ada", Duration::from_millis(ms)));
        }
        let failed = Failed { kind: "timeout".into(), message: "late".into() };
        let late =
            Upload { outcome: Err(failed), took: Duration::from_secs(9), retries: Retries { busy: 2, connection: 1 } };
        tally.add("y.jpg", None, &late);
        let report = report(tally, 101);
        let latency = report.latency_ms.expect("some were completed");
        for (found, exact) in [(latency.p50, 50.0), (latency.p90, 90.0), (latency.p99, 99.0), (latency.max, 100.0)] {
            assert!((found - exact).abs() <= exact * 1e-3, "{found} for {exact}");
        }
        assert_eq!(report.images_per_second, 50.0);
        assert_eq!(report.failed, BTreeMap::from([("timeout".to_owned(), 1)]));
        assert_eq!(report.failures[0].photo, "y.jpg");
        assert_eq!(report.retries, Retries { busy: 2, connection: 1 });
        assert!(!report.is_good(), "one of 101 failed");
    }

    #[test]
    fn answers_are_told_apart() {
        let mut tally = Tally::new(true);
        for (expected, label) in [
            (Some("Ada"), "Ada"),
            (Some("Ada"), "Bob"),
            (Some("Ada"), "unknown"),
            (Some("Ada"), "no face"),
            (Some("unknown"), "unknown"),
            (Some("unknown"), "Bob"),
            (None, "Bob"),
        ] {
            tally.add("x.jpg", expected, &answered(label, Duration::from_millis(1)));
        }
        let report = report(tally, 7);
        let answers = report.answers.as_ref().expect("compared");
        assert_eq!((answers.correct, answers.wrong, answers.unknown, answers.unlisted), (2, 2, 2, 1));
        assert_eq!(answers.mismatches.len(), 4);
        assert!(!report.is_good());
        let text = report.text();
        assert!(text.contains("2 (2 wrong, 2 unknown, 1 not listed)"), "{text}");
        assert!(text.contains("x.jpg: Ada expected, Bob answered"), "{text}");
    }

    #[test]
    fn without_a_completed_upload_there_is_no_latency() {
        let report = report(Tally::new(false), 1);
        assert_eq!(report.latency_ms, None);
        assert_eq!(report.images_per_second, 0.0);
    }

    proptest! {
        #[test]
        fn every_upload_is_counted_once(labels in prop::collection::vec(prop::option::of("Ada|Bob|unknown"), 0..50)) {
            let mut tally = Tally::new(true);
            for label in &labels {
                let failed = || Failed { kind: "connection".into(), message: String::new() };
                let outcome = label.clone().map(|label| Answer { label, id: None }).ok_or_else(failed);
                let upload = Upload { outcome, took: Duration::from_millis(1), retries: Retries::default() };
                tally.add("x.jpg", Some("Ada"), &upload);
            }
            let report = report(tally, labels.len());
            let answers = report.answers.clone().expect("compared");
            prop_assert_eq!(answers.correct + answers.wrong + answers.unknown, report.completed);
            prop_assert_eq!(report.completed + report.failed.values().sum::<usize>(), labels.len());
            prop_assert_eq!(report.is_good(), labels.iter().all(|l| l.as_deref() == Some("Ada")));
        }
    }
}

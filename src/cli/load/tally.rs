//! Counts uploads as they end, and turns the counts into a report.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::{
    client::{Retries, Upload},
    report::{FailedUpload, LabelCounts, Latency, Mismatch, Report},
};
use crate::{
    cli::report_page::Request,
    recognition::{NO_FACE, UNKNOWN},
};

/// Mismatches and failures that are listed one by one.
const MAX_LISTED: usize = 20;

/// The counts so far.
pub(super) struct Tally {
    completed: usize,
    failed: BTreeMap<String, usize>,
    failures: Vec<FailedUpload>,
    retries: Retries,
    labels: Option<LabelCounts>,
    /// Of completed uploads, in microseconds.
    latency: Histogram<u64>,
    uploads: Vec<Request>,
}

impl Tally {
    /// Creates an empty tally. `expecting` is whether labels are compared with expected ones.
    pub(super) fn new(expecting: bool) -> Self {
        Self {
            completed: 0,
            failed: BTreeMap::new(),
            failures: Vec::new(),
            retries: Retries::default(),
            labels: expecting.then(LabelCounts::default),
            // Up to one hour; longer latencies saturate.
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds"), // constants
            uploads: Vec::new(),
        }
    }

    /// Returns the number of completed uploads.
    pub(super) fn completed(&self) -> usize {
        self.completed
    }

    /// Counts an upload of `photo`, whose expected label is `expected`. It began `at` after the first.
    pub(super) fn add(&mut self, photo: &str, expected: Option<&str>, at: Duration, upload: &Upload) {
        self.uploads.push(Request { at, took: upload.outcome.is_ok().then_some(upload.took) });
        self.retries.busy += upload.retries.busy;
        self.retries.connection += upload.retries.connection;
        match &upload.outcome {
            Ok(response) => {
                self.completed += 1;
                self.latency.saturating_record(upload.took.as_micros() as u64);
                if let Some(labels) = &mut self.labels {
                    labels.add(photo, expected, &response.label);
                }
            }
            Err(failed) => {
                *self.failed.entry(failed.kind.clone()).or_default() += 1;
                if self.failures.len() < MAX_LISTED {
                    let (kind, message) = (failed.kind.clone(), failed.message.clone());
                    self.failures.push(FailedUpload { photo: photo.to_owned(), kind, message });
                }
            }
        }
    }

    fn latency(&self) -> Option<Latency> {
        let at = |q| self.latency.value_at_quantile(q) as f64 / 1e3;
        let max = self.latency.max() as f64 / 1e3;
        // A quantile is the upper end of its bucket, which may be above the largest value in the bucket.
        let at = |q| f64::min(at(q), max);
        (self.completed > 0).then(|| Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), max })
    }

    /// Returns the report, without the fleet and the store. `requests` and `concurrency` are those of the arguments,
    /// `photos` is the number of distinct photos and `took` the makespan.
    pub(super) fn report(
        self,
        url: String,
        (requests, concurrency): (usize, usize),
        photos: usize,
        took: Duration,
    ) -> Report {
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
            answers: self.labels,
            images_per_second: self.completed as f64 / took.as_secs_f64().max(1e-9),
            makespan_ms: took.as_secs_f64() * 1e3,
            fleet: Vec::new(),
            store: None,
            uploads: self.uploads,
        }
    }
}

impl LabelCounts {
    fn add(&mut self, photo: &str, expected: Option<&str>, label: &str) {
        let Some(expected) = expected else {
            self.unlisted += 1;
            return;
        };
        if label == expected {
            self.correct += 1;
            return;
        }
        match label {
            UNKNOWN | NO_FACE => self.unknown += 1,
            _ => self.wrong += 1,
        }
        if self.mismatches.len() < MAX_LISTED {
            let (photo, expected) = (photo.to_owned(), expected.to_owned());
            self.mismatches.push(Mismatch { photo, expected, answered: label.to_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::load::client::{Failed, UploadResponse};

    fn completed(label: &str, took: Duration) -> Upload {
        Upload { outcome: Ok(UploadResponse { label: label.into(), id: None }), took, retries: Retries::default() }
    }

    fn report(tally: Tally, requests: usize) -> Report {
        tally.report("http://x/".into(), (requests, 1), requests, Duration::from_secs(2))
    }

    #[test]
    fn percentiles_are_of_completed_uploads_only() {
        let mut tally = Tally::new(false);
        for ms in 1..=100 {
            tally.add("x.jpg", None, Duration::ZERO, &completed("Ada", Duration::from_millis(ms)));
        }
        let failed = Failed { kind: "timeout".into(), message: "late".into() };
        let late =
            Upload { outcome: Err(failed), took: Duration::from_secs(9), retries: Retries { busy: 2, connection: 1 } };
        tally.add("y.jpg", None, Duration::from_millis(7), &late);
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
        assert_eq!(report.uploads.len(), 101);
        assert_eq!(report.uploads[100], Request { at: Duration::from_millis(7), took: None });
    }

    #[test]
    fn labels_are_counted_by_how_they_compare_with_the_expected_ones() {
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
            tally.add("x.jpg", expected, Duration::ZERO, &completed(label, Duration::from_millis(1)));
        }
        let report = report(tally, 7);
        let labels = report.answers.as_ref().expect("compared");
        assert_eq!((labels.correct, labels.wrong, labels.unknown, labels.unlisted), (2, 2, 2, 1));
        assert_eq!(labels.mismatches.len(), 4);
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
                let outcome = label.clone().map(|label| UploadResponse { label, id: None }).ok_or_else(failed);
                let upload = Upload { outcome, took: Duration::from_millis(1), retries: Retries::default() };
                tally.add("x.jpg", Some("Ada"), Duration::ZERO, &upload);
            }
            let report = report(tally, labels.len());
            let counts = report.answers.clone().expect("compared");
            prop_assert_eq!(counts.correct + counts.wrong + counts.unknown, report.completed);
            prop_assert_eq!(report.completed + report.failed.values().sum::<usize>(), labels.len());
            prop_assert_eq!(report.is_good(), labels.iter().all(|l| l.as_deref() == Some("Ada")));
        }
    }
}

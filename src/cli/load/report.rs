//! The report of a load run, as JSON and as text.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;

use super::{client::Retries, fleet, verify::StoreCheck};
use crate::cli::report_page::Request;

/// The report. `--json` prints it as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    /// Address that was uploaded to.
    pub(super) url: String,
    /// Number of uploads.
    pub(super) requests: usize,
    /// Number of concurrent uploads.
    pub(super) concurrency: usize,
    /// Number of distinct photos.
    pub(super) photos: usize,
    /// Uploads whose response was a label.
    pub(super) completed: usize,
    /// Other uploads by kind of failure: `connection`, `timeout`, `http 415`, or `photo` (it could not be read).
    pub(super) failed: BTreeMap<String, usize>,
    /// The first failures.
    pub(super) failures: Vec<FailedUpload>,
    /// Retries of all uploads.
    pub(super) retries: Retries,
    /// Absent without `--expected` or `--expect-folder`.
    pub(super) answers: Option<LabelCounts>,
    /// Absent if no upload was completed.
    pub(super) latency_ms: Option<Latency>,
    /// Completed uploads per second of the makespan.
    pub(super) images_per_second: f64,
    /// From the first upload to the last response.
    pub(super) makespan_ms: f64,
    /// The fleet every 200 ms; empty if the server has no fleet.
    pub(super) fleet: Vec<fleet::Sample>,
    /// Absent with `--no-verify`, and if the server does not return the ids of its jobs.
    pub(super) store: Option<StoreCheck>,
    /// Every upload.
    #[serde(skip)]
    pub(super) uploads: Vec<Request>,
}

/// Labels compared with the expected ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct LabelCounts {
    /// The expected label.
    pub(super) correct: usize,
    /// A different name from the expected one.
    pub(super) wrong: usize,
    /// `unknown` or `no face` instead of the expected name.
    pub(super) unknown: usize,
    /// Photos without an expected label.
    pub(super) unlisted: usize,
    /// The first mismatches.
    pub(super) mismatches: Vec<Mismatch>,
}

/// A label that was not the expected one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Mismatch {
    /// The photo.
    pub(super) photo: String,
    /// The label that was expected.
    pub(super) expected: String,
    /// The label in the response.
    pub(super) answered: String,
}

/// An upload that was not completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FailedUpload {
    /// The photo.
    pub(super) photo: String,
    /// The kind of failure, as in [`Report::failed`].
    pub(super) kind: String,
    /// What went wrong.
    pub(super) message: String,
}

/// Milliseconds from the first attempt of an upload to its response, to three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    /// Median.
    pub(super) p50: f64,
    /// 90th percentile.
    pub(super) p90: f64,
    /// 99th percentile.
    pub(super) p99: f64,
    /// Maximum.
    pub(super) max: f64,
}

impl Report {
    /// Returns whether every upload was completed, no label was wrong, and no result is missing from the store.
    pub(super) fn is_good(&self) -> bool {
        self.completed == self.requests
            && self.answers.as_ref().is_none_or(|a| a.wrong + a.unknown == 0)
            && self.store.as_ref().is_none_or(StoreCheck::is_complete)
    }

    /// Formats the report as text.
    pub(super) fn text(&self) -> String {
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
            writeln!(out, "retried    {busy} after 429 or 503, {connection} after a broken connection")?;
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

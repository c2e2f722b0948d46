//! A check: what was expected, what was seen, and the verdict.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    Ok,
    Failed,
    /// It could not be made, because of another fault or of a setting; that alone is no failure.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What is checked.
    pub(super) name: String,
    pub(super) verdict: Verdict,
    pub(super) expected: String,
    pub(super) seen: String,
    /// What to do, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    /// Creates a check that saw what it expected.
    pub(super) fn ok(name: impl Into<String>, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        let (name, expected, seen) = (name.into(), expected.into(), seen.into());
        Self { name, verdict: Verdict::Ok, expected, seen, remedy: None }
    }

    /// Creates a check that saw something else.
    pub(super) fn failed(
        name: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Failed, remedy: Some(remedy.into()), ..Self::ok(name, expected, seen) }
    }

    /// Creates a check that could not be made.
    pub(super) fn skipped(name: impl Into<String>, expected: impl Into<String>, why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skipped, ..Self::ok(name, expected, why) }
    }

    /// Creates a check that has failed if there are faults, and otherwise saw `healthy`.
    pub(super) fn of_faults(
        name: impl Into<String>,
        expected: impl Into<String>,
        healthy: impl Into<String>,
        faults: &[String],
        remedy: impl Into<String>,
    ) -> Self {
        if faults.is_empty() {
            return Self::ok(name, expected, healthy);
        }
        Self::failed(name, expected, faults.join("; "), remedy)
    }

    /// Formats the check as a line, and one with the remedy if it failed.
    fn text(&self) -> String {
        let Self { name, verdict, expected, seen, remedy } = self;
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        let remedy = remedy.as_ref().map_or_else(String::new, |remedy| format!("\n         → {remedy}"));
        // What is seen may be a log; its lines are kept below the check.
        let seen = seen.trim_end().replace('\n', "\n         | ");
        format!("{word:<8} {name}: expected {expected}; seen: {seen}{remedy}")
    }
}

/// The checks so far. Prints each as a line when it is made, unless all are wanted as JSON.
pub(super) struct Report {
    pub(super) json: bool,
    checks: Mutex<Vec<Check>>,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, checks: Mutex::default() }
    }

    /// Adds a check.
    pub(super) fn add(&self, check: Check) {
        if !self.json {
            println!("{}", check.text());
        }
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push(check);
    }

    /// Prints all checks as JSON, or their numbers. Returns whether none has failed.
    ///
    /// # Errors
    /// They cannot be written as JSON.
    pub(super) fn finish(&self) -> anyhow::Result<bool> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
        let (failed, skipped) = (count(Verdict::Failed), count(Verdict::Skipped));
        if self.json {
            println!("{}", serde_json::to_string_pretty(&*checks)?);
        } else {
            println!("{} checks: {} ok, {failed} failed, {skipped} skipped", checks.len(), count(Verdict::Ok));
        }
        Ok(failed == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_one_line_with_what_was_expected_and_seen() {
        let ok = Check::of_faults("queue a", "as in the template", "the same", &[], "nothing");
        assert_eq!(ok.text(), "ok       queue a: expected as in the template; seen: the same");
        let faults = ["x is 1".to_owned(), "y is 2\n".to_owned()];
        let failed = Check::of_faults("queue a", "as in the template", "the same", &faults, "set them");
        let text = "FAILED   queue a: expected as in the template; seen: x is 1; y is 2\n         → set them";
        assert_eq!(failed.text(), text);
        assert_eq!(Check::skipped("stop", "x", "no worker").text(), "skipped  stop: expected x; seen: no worker");
    }

    #[test]
    fn the_report_fails_if_a_check_has_failed() {
        let report = Report::new(true);
        report.add(Check::ok("a", "x", "x"));
        report.add(Check::skipped("b", "x", "why"));
        assert!(report.finish().expect("JSON"));
        report.add(Check::failed("c", "x", "y", "z"));
        assert!(!report.finish().expect("JSON"));
    }
}

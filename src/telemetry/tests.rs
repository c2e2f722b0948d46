//! The catalogue is what the program measures and what the document says, and reports arrive as they were measured.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::PrometheusBuilder;

use super::*;
use crate::wire;

/// Writes the table of the document instead of comparing it.
const WRITE: &str = "ROLLCALL_WRITE_METRICS";
const DOCUMENT: &str = "docs/metrics.md";
const BEGIN: &str = "<!-- metrics: begin -->\n";
const END: &str = "<!-- metrics: end -->\n";

/// Returns the catalogue as a table in Markdown.
fn table() -> String {
    let mut out = "\n| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for Metric { name, kind, help, labels, .. } in CATALOGUE {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let label = |(name, values): &(&str, Values)| match values {
            Values::Fixed(values) => format!("`{name}`: {}", values.join(", ")),
            Values::Described(what) => format!("`{name}`: {what}"),
        };
        let labels = labels.iter().map(label).collect::<Vec<_>>().join("; ");
        writeln!(out, "| `{name}` | {kind} | {labels} | {help} |").expect("a String");
    }
    out.push('\n');
    out
}

#[test]
fn the_document_has_every_metric() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let document = fs::read_to_string(&path).expect(DOCUMENT);
    let (before, rest) = document.split_once(BEGIN).expect(BEGIN);
    let (written, after) = rest.split_once(END).expect(END);
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, [before, BEGIN, &table(), END, after].concat()).expect("written");
    } else {
        assert_eq!(written, table(), "{DOCUMENT} is not what the catalogue says: run this test with {WRITE}=1");
    }
}

/// Returns the names of the metrics that a source file records.
fn recorded(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in source.match_indices("!(") {
        if ["counter", "gauge", "histogram"].iter().any(|name| source[..at].ends_with(name))
            && let Some(rest) = source[at + 2..].trim_start().strip_prefix('"')
            && let Some((name, _)) = rest.split_once('"')
        {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
fn every_metric_is_in_the_catalogue_and_is_recorded_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = walkdir::WalkDir::new(&folder).into_iter().map(|entry| entry.expect("an entry").into_path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let sources = sources.filter(|path| !path.ends_with("telemetry/tests.rs"));
    let names: BTreeSet<_> = sources.flat_map(|path| recorded(&fs::read_to_string(path).expect("text"))).collect();
    let catalogue: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name.to_owned()).collect();
    assert_eq!(names, catalogue);
    assert_eq!(catalogue.len(), CATALOGUE.len(), "each is there once");
}

#[test]
fn what_a_worker_measures_is_added_to_the_metrics_of_a_node() {
    let collector = Collector::default();
    metrics::with_local_recorder(&collector, || {
        counter!("rollcall_job_redeliveries_total").increment(2);
        counter!("rollcall_job_redeliveries_total").increment(1);
    });
    assert!(!collector.has_values(), "an idle worker counts its polls, and has nothing to report");
    metrics::with_local_recorder(&collector, || {
        for seconds in [0.02, 0.02, 40.0, f64::NAN] {
            histogram!("rollcall_job_stage_duration_seconds", "stage" => "embed").record(seconds);
        }
        gauge!("rollcall_instances", "state" => "running").set(99.0);
        counter!("rollcall_jobs_total", "outcome" => "a-name").increment(1);
        counter!("rollcall_jobs_total", "outcome" => "done", "more" => "x").increment(1);
        counter!("rollcall_made_up_total").increment(1);
        counter!("rollcall_job_duration_seconds").increment(1);
    });
    assert!(collector.has_values());
    let bytes = wire::to_bytes(&WorkerReport { samples: collector.take() }).expect("encoded");
    assert!(!collector.has_values() && collector.take().is_empty(), "nothing is reported twice");
    assert!(wire::from_bytes::<crate::job::Reply>(&bytes).is_err(), "no reply");

    let recorder = recorder().expect("a recorder").build_recorder();
    let report: WorkerReport = wire::from_bytes(&bytes).expect("decoded");
    metrics::with_local_recorder(&recorder, || (0..2).for_each(|_| report.replay()));
    let rendered = recorder.handle().render();
    for line in [
        "rollcall_job_redeliveries_total 6",
        r#"rollcall_job_stage_duration_seconds_bucket{stage="embed",le="0.01"} 0"#,
        r#"rollcall_job_stage_duration_seconds_bucket{stage="embed",le="0.025"} 4"#,
        r#"rollcall_job_stage_duration_seconds_bucket{stage="embed",le="60"} 6"#,
        r#"rollcall_job_stage_duration_seconds_count{stage="embed"} 6"#,
    ] {
        assert!(rendered.lines().any(|found| found == line), "{line} in {rendered}");
    }
    for part in ["made_up", "a-name", "more", "rollcall_instances", "rollcall_job_duration", "NaN"] {
        assert!(!rendered.contains(part), "{part} in {rendered}");
    }
}

#[test]
fn values_beyond_the_limit_are_dropped() {
    let collector = Collector::default();
    metrics::with_local_recorder(&collector, || {
        (0..20_000).for_each(|_| histogram!("rollcall_job_duration_seconds").record(1.0));
    });
    let Value::Observed(values) = &collector.take()[0].value else { panic!("values") };
    assert_eq!(values.len(), 10_000);
}

#[test]
fn a_recorder_without_the_catalogue_has_no_buckets() {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || histogram!("rollcall_job_duration_seconds").record(1.0));
    assert!(!recorder.handle().render().contains("_bucket"), "or the test above would prove nothing");
}

//! The cluster's metrics for CloudWatch, which the active controller writes to standard output: see ADR 41. There is a line
//! every minute, and one for each dead letter when it is stored.
//!
//! Each line is a document in the embedded metric format ("Specification: Embedded metric format", CloudWatch User Guide).
//! Names are those of `/metrics`; numbers that are not metrics, because each would be billed, are members of the line.

use std::{io::Write as _, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    clock::now_ms,
    cloud::aws::AwsCloud,
    fleet::view::FleetView,
    results::ResultStore,
    settings::{Prices, Settings},
};

/// Time between two lines. CloudWatch keeps standard metrics by the minute.
const EVERY: Duration = Duration::from_secs(60);
/// Number of lines from one count of the dead letters to the next, which lists objects.
const LINES_PER_COUNT: u64 = 5;
/// Namespace of the metrics. The alarms of `deploy/cloudformation.yaml` refer to it.
const NAMESPACE: &str = "Rollcall";

/// Name, unit and value of a metric.
type Metric = (&'static str, &'static str, Value);

/// Returns a document with these metrics. `at_ms` is in milliseconds since the Unix epoch.
fn document(cluster: &str, at_ms: u64, metrics: Vec<Metric>) -> Value {
    let definitions: Vec<Value> = metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let mut document = json!({
        "_aws": {
            "Timestamp": at_ms,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["Cluster"]], "Metrics": definitions}],
        },
        "Cluster": cluster,
    });
    for (name, _, value) in metrics {
        document[name] = value;
    }
    document
}

/// Returns the document that counts one dead letter.
fn dead_letter(cluster: &str, at_ms: u64) -> Value {
    document(cluster, at_ms, vec![("rollcall_dead_letters_total", "Count", json!(1))])
}

/// Writes a line. In one write: nothing else may come between its parts. If nobody reads it, nobody misses it.
fn write(document: &Value) {
    let _ = std::io::stdout().write_all(format!("{document}\n").as_bytes());
}

/// What a line of every minute is about.
struct Sample<'a> {
    cluster: &'a str,
    /// Milliseconds since the Unix epoch.
    at_ms: u64,
    /// Time since the last line.
    elapsed: Duration,
    view: &'a FleetView,
    /// Number of dead letters; `None` if they could not be counted.
    dead_letters: Option<usize>,
    prices: &'a Prices,
}

impl Sample<'_> {
    /// Returns what the workers cost in an hour, as they are now: instances that run, and the disks of all that exist.
    fn cost_per_hour(&self) -> f64 {
        self.prices.workers_per_hour(&self.view.counts)
    }

    fn document(&self) -> Value {
        let (view, per_hour) = (self.view, self.cost_per_hour());
        let mut metrics = vec![
            ("rollcall_demand_jobs", "Count", json!(view.demand)),
            ("rollcall_fleet_degraded", "Count", json!(u8::from(view.degraded.is_some()))),
            // A counter: CloudWatch adds up what each line has.
            ("rollcall_worker_cost_dollars_total", "None", json!(per_hour * self.elapsed.as_secs_f64() / 3600.0)),
        ];
        metrics.extend(self.dead_letters.map(|n| ("rollcall_dead_letters_stored", "Count", json!(n))));
        let mut document = document(self.cluster, self.at_ms, metrics);
        let (d, c) = (&view.depth, &view.counts);
        document["rollcall_target_instances"] = json!(view.target);
        document["rollcall_failed_boots"] = json!(view.degraded.as_ref().map_or(0, |degraded| degraded.failed_boots));
        document["rollcall_queue_jobs"] = json!({"visible": d.visible, "in-flight": d.in_flight, "delayed": d.delayed});
        document["rollcall_instances"] = json!({
            "pending": c.pending, "running": c.running, "stopping": c.stopping, "stopped": c.stopped,
            "shutting-down": c.shutting_down, "terminated": c.terminated,
        });
        document["rollcall_worker_cost_dollars_per_hour"] = json!(per_hour);
        document
    }
}

/// Writes the metrics, if the settings say so.
pub(super) struct Metrics {
    enabled: bool,
    cluster: String,
    prices: Prices,
    results: ResultStore,
    fleet: watch::Receiver<Arc<FleetView>>,
}

impl Metrics {
    pub fn new(cloud: &AwsCloud, settings: &Settings, fleet: watch::Receiver<Arc<FleetView>>) -> Self {
        let results = ResultStore::new(cloud.objects.clone(), settings.store.clone());
        let (cluster, prices) = (settings.cloud.cluster.clone(), settings.prices.clone());
        Self { enabled: settings.aws.metrics, cluster, prices, results, fleet }
    }

    /// Returns a function that writes a line which counts one dead letter.
    pub fn dead_letter_counter(&self) -> Arc<dyn Fn() + Send + Sync> {
        let cluster = self.enabled.then(|| self.cluster.clone());
        Arc::new(move || {
            if let Some(cluster) = &cluster {
                write(&dead_letter(cluster, now_ms()));
            }
        })
    }

    /// Writes a line every minute for as long as this future is polled. The first follows the first view of the fleet.
    pub async fn publish(&self) {
        let mut fleet = self.fleet.clone();
        if !self.enabled || fleet.wait_for(|view| view.at_ms > 0).await.is_err() {
            return std::future::pending().await;
        }
        let (mut last, mut dead_letters) = (Instant::now(), None);
        for n in 0u64.. {
            if n.is_multiple_of(LINES_PER_COUNT) || dead_letters.is_none() {
                let counted = self.results.count_dead_letters().await;
                let counted = counted.inspect_err(|error| tracing::warn!(%error, "the dead letters were not counted"));
                dead_letters = counted.ok();
            }
            let view = fleet.borrow_and_update().clone();
            let (cluster, prices, elapsed) = (&self.cluster, &self.prices, last.elapsed());
            last += elapsed;
            write(&Sample { cluster, at_ms: now_ms(), elapsed, view: &view, dead_letters, prices }.document());
            sleep(EVERY).await;
        }
    }
}

#[cfg(test)]
mod alarm_tests;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::fleet::{Counts, Depth, view::DegradedView};

    const PRICES: Prices = Prices { instance_hour: 0.1, disk_gb_month: 0.09, disk_gb: 8.0, queue_million_calls: 0.5 };

    fn document(view: &FleetView, dead_letters: Option<usize>) -> Value {
        let elapsed = Duration::from_secs(90);
        let sample = Sample { cluster: "blue", at_ms: 1_700_000_000_000, elapsed, view, dead_letters, prices: &PRICES };
        let line = sample.document().to_string();
        assert!(!line.contains('\n'), "{line}");
        serde_json::from_str(&line).unwrap()
    }

    fn metrics(document: &Value) -> Vec<Value> {
        document["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().clone()
    }

    fn view() -> FleetView {
        let counts = Counts { pending: 1, running: 2, stopping: 3, stopped: 4, shutting_down: 5, terminated: 6 };
        let degraded = Some(DegradedView { failed_boots: 7, ..DegradedView::default() });
        let depth = Depth { visible: 8, in_flight: 9, delayed: 10 };
        FleetView { counts, degraded, depth, demand: 27, target: 11, ..FleetView::default() }
    }

    #[test]
    fn a_line_follows_the_specification_of_the_embedded_metric_format() {
        let minutes = [None, Some(12)].map(|dead_letters| (document(&view(), dead_letters), dead_letters.is_some()));
        for (document, stored) in minutes.into_iter().chain([(dead_letter("blue", 1_700_000_000_000), false)]) {
            assert_eq!(document["_aws"]["Timestamp"], 1_700_000_000_000u64);
            let [directive] = document["_aws"]["CloudWatchMetrics"].as_array().unwrap().as_slice() else { panic!() };
            assert_eq!(directive["Namespace"], NAMESPACE);
            // Each dimension is a member of the root with a text, and each metric one with a number.
            assert_eq!(directive["Dimensions"], json!([["Cluster"]]));
            assert_eq!(document["Cluster"], "blue");
            let mut names = BTreeSet::new();
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                assert!(document[name].is_number(), "{name}: {document}");
                assert!(["Count", "None"].contains(&metric["Unit"].as_str().unwrap()));
                assert!(names.insert(name), "{name} twice");
            }
            assert_eq!(names.contains("rollcall_dead_letters_stored"), stored);
        }
    }

    #[test]
    fn a_line_has_the_state_of_the_fleet() {
        let document = document(&view(), Some(12));
        for (name, value) in [
            ("rollcall_demand_jobs", json!(27)),
            ("rollcall_fleet_degraded", json!(1)),
            ("rollcall_dead_letters_stored", json!(12)),
            ("rollcall_failed_boots", json!(7)),
            ("rollcall_target_instances", json!(11)),
            ("rollcall_queue_jobs", json!({"visible": 8, "in-flight": 9, "delayed": 10})),
        ] {
            assert_eq!(document[name], value, "{name}");
        }
        assert_eq!(document["rollcall_instances"]["shutting-down"], 5);
        assert_eq!(self::document(&FleetView::default(), None)["rollcall_fleet_degraded"], 0);
    }

    /// A line of every minute does not have this metric: a new controller does not know how many are new.
    #[test]
    fn each_dead_letter_is_counted_by_a_line_of_its_own() {
        let counted = dead_letter("blue", 1);
        assert_eq!(metrics(&counted), [json!({"Name": "rollcall_dead_letters_total", "Unit": "Count"})]);
        assert_eq!(counted["rollcall_dead_letters_total"], 1);
        assert!(document(&view(), Some(12)).get("rollcall_dead_letters_total").is_none());
    }

    #[test]
    fn workers_cost_what_runs_and_the_disks_of_all_that_exist() {
        let document = document(&view(), None);
        let expected = 2.0 * 0.1 + 10.0 * 8.0 * 0.09 / 720.0;
        let close = |name: &str, value: f64| (document[name].as_f64().unwrap() - value).abs() < 1e-9;
        assert!(close("rollcall_worker_cost_dollars_per_hour", expected), "{document}");
        assert!(close("rollcall_worker_cost_dollars_total", expected / 40.0), "of 90 seconds: {document}");
    }

    #[test]
    fn every_alarm_of_the_stack_refers_to_a_metric_of_a_line() {
        let metrics = [metrics(&document(&view(), Some(0))), metrics(&dead_letter("blue", 1))].concat();
        let template = include_str!("../../../deploy/cloudformation.yaml");
        let alarms: Vec<&str> = template.split("Type: AWS::CloudWatch::Alarm").skip(1).collect();
        assert_eq!(alarms.len(), 4, "silence, degraded, dead letters, cost");
        for alarm in alarms {
            let value = |key: &str| alarm.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default();
            let name = value("MetricName: ");
            assert!(metrics.iter().any(|metric| metric["Name"] == name), "{name}");
            assert_eq!(value("Namespace: "), NAMESPACE);
            assert_eq!(value("Dimensions: "), "[{ Name: Cluster, Value: !Ref Cluster }]");
        }
    }

    /// An alarm about how many are stored would say nothing of the second one.
    #[test]
    fn the_alarm_about_dead_letters_is_about_new_ones_and_ends_without_them() {
        let template = include_str!("../../../deploy/cloudformation.yaml");
        let alarm = template.split_once("  DeadLettersAlarm:").unwrap().1;
        let properties: Vec<&str> = alarm.lines().skip(1).take_while(|line| line.starts_with("   ")).collect();
        for line in [
            "MetricName: rollcall_dead_letters_total",
            "Statistic: Sum",
            "Period: 300",
            "EvaluationPeriods: 1",
            "ComparisonOperator: GreaterThanThreshold",
            "Threshold: 0",
            "TreatMissingData: notBreaching",
        ] {
            assert!(properties.iter().any(|property| property.trim() == line), "{line}: {properties:?}");
        }
    }
}

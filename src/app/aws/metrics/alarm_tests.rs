//! The alarms of the stack, evaluated as CloudWatch does on the lines of a day.

use serde_norway::Value as Yaml;

use super::*;
use crate::fleet::{Counts, view::DegradedView};

const PRICES: Prices = Prices { instance_hour: 0.1, disk_gb_month: 0.0, disk_gb: 0.0, queue_million_calls: 0.0 };
const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

/// An alarm of the template.
struct Alarm {
    name: String,
    metric: String,
    statistic: String,
    /// Seconds.
    period: u64,
    periods: u64,
    comparison: String,
    threshold: f64,
    missing: String,
}

/// Returns the alarms of the template. `daily_cost` is the value of its parameter DailyCost.
fn alarms(daily_cost: f64) -> Vec<Alarm> {
    let template: Yaml = serde_norway::from_str(include_str!("../../../../deploy/cloudformation.yaml")).unwrap();
    let resources = template["Resources"].as_mapping().unwrap().iter();
    let alarms = resources.filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm");
    let alarm = |(name, resource): (&Yaml, &Yaml)| {
        let properties = &resource["Properties"];
        let text = |key: &str| properties[key].as_str().unwrap_or_else(|| panic!("{key} of {name:?}")).to_owned();
        let number = |key: &str| properties[key].as_u64().unwrap_or_else(|| panic!("{key} of {name:?}"));
        assert!(format!("{:?}", properties["AlarmActions"]).contains("AlarmTopic"), "{name:?} tells somebody");
        Alarm {
            name: name.as_str().unwrap().to_owned(),
            metric: text("MetricName"),
            statistic: text("Statistic"),
            period: number("Period"),
            periods: number("EvaluationPeriods"),
            comparison: text("ComparisonOperator"),
            threshold: properties["Threshold"].as_f64().unwrap_or(daily_cost), // otherwise a reference
            missing: text("TreatMissingData"),
        }
    };
    alarms.map(alarm).collect()
}

impl Alarm {
    /// Returns whether it fires at a time in seconds, if it did not before.
    fn fires(&self, lines: &[(u64, Value)], now: u64) -> bool {
        (0..self.periods).all(|n| {
            let end = now - n * self.period;
            let within = lines.iter().filter(|(at, _)| (end - self.period..end).contains(at));
            let values: Vec<f64> = within.filter_map(|(_, line)| line[&self.metric].as_f64()).collect();
            if values.is_empty() {
                return self.missing == "breaching";
            }
            let value = match self.statistic.as_str() {
                "SampleCount" => values.len() as f64,
                "Maximum" => values.iter().copied().fold(f64::MIN, f64::max),
                "Sum" => values.iter().sum(),
                other => panic!("{other}"),
            };
            match self.comparison.as_str() {
                "LessThanThreshold" => value < self.threshold,
                "GreaterThanOrEqualToThreshold" => value >= self.threshold,
                "GreaterThanThreshold" => value > self.threshold,
                other => panic!("{other}"),
            }
        })
    }
}

/// Returns the names of the alarms that fire at the end of a day with these lines.
fn firing(lines: &[(u64, Value)], daily_cost: f64) -> Vec<String> {
    alarms(daily_cost).into_iter().filter(|alarm| alarm.fires(lines, DAY)).map(|alarm| alarm.name).collect()
}

/// Returns the line of a minute.
fn line(degraded: bool) -> Value {
    let view = FleetView {
        counts: Counts { running: 2, ..Counts::default() },
        degraded: degraded.then(DegradedView::default),
        ..FleetView::default()
    };
    let (cluster, elapsed) = ("blue", Duration::from_secs(MINUTE));
    Sample { cluster, at_ms: 0, elapsed, view: &view, dead_letters: Some(1), prices: &PRICES }.document()
}

/// A line each minute of a day, in which two workers run, at 0.1 $ an hour each.
fn day() -> Vec<(u64, Value)> {
    let line = line(false);
    (0..DAY / MINUTE).map(|minute| (minute * MINUTE, line.clone())).collect()
}

#[test]
fn each_alarm_fires_on_what_it_is_for_and_on_nothing_else() {
    let cost = 24.0 * 2.0 * 0.1;
    let (less, more) = (cost - 0.01, cost + 0.01);
    assert_eq!(alarms(more).len(), 4);
    assert_eq!(firing(&day(), more), Vec::<String>::new());
    assert_eq!(firing(&day(), less), ["CostAlarm"]);

    let mut last_minute = day();
    last_minute.last_mut().unwrap().1 = line(true);
    assert_eq!(firing(&last_minute, more), ["DegradedAlarm"]);
    let mut given_up = day();
    given_up.push((DAY - MINUTE, dead_letter("blue", 0)));
    assert_eq!(firing(&given_up, more), ["DeadLettersAlarm"]);
    let mut earlier = day();
    earlier.extend([(DAY - 2 * MINUTE, line(true)), (DAY - 6 * MINUTE, dead_letter("blue", 0))]);
    assert_eq!(firing(&earlier, more), Vec::<String>::new(), "it is over");

    let until = |end: u64| day().into_iter().filter(|(at, _)| *at < end).collect::<Vec<_>>();
    assert_eq!(firing(&until(DAY - 10 * MINUTE), more), ["SilentAlarm"]);
    assert_eq!(firing(&until(DAY - 9 * MINUTE), more), Vec::<String>::new(), "not for ten minutes");
    assert_eq!(firing(&[], more), ["SilentAlarm"], "also before the first web node is ready");
}

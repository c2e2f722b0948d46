//! Reads a cluster's log group.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_cloudwatchlogs::{Client, types::FilteredLogEvent};
use serde_json::{Map, Value};

use super::{
    super::{
        call_sites::CallSite as _,
        errors::{classify, code},
    },
    group,
};
use crate::cloud::CloudResult;

/// What a machine's clock, the forwarder and CloudWatch may delay an event by, relative to others.
const LATENESS_MS: i64 = 60_000;

/// Which log lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Those since then, in milliseconds since the Unix epoch.
    pub(crate) since_ms: i64,
    /// Only those of this instance.
    pub(crate) instance: Option<String>,
    /// Only those with this text.
    pub(crate) text: Option<String>,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it was logged, in milliseconds since the Unix epoch.
    pub(crate) at_ms: i64,
    /// The id of the instance.
    pub(crate) instance: String,
    /// The unit; empty if the event was not sent by Rollcall.
    pub(crate) unit: String,
    /// The message, or the whole event if it has none.
    pub(crate) message: String,
}

/// Reads lines, each once.
pub(crate) struct Reader {
    client: Client,
    group: String,
    query: Query,
    /// Ids of the events that were read and may be read again, with their times.
    seen: BTreeMap<String, i64>,
}

impl Reader {
    pub(in super::super) fn new(client: Client, cluster: &str, query: Query) -> Self {
        Self { client, group: group(cluster), query, seen: BTreeMap::new() }
    }

    /// Returns the lines that have arrived since the last call, the oldest first. Those that have metrics are left out.
    ///
    /// # Errors
    /// There is no log group, or it cannot be read.
    pub(crate) async fn read(&mut self) -> CloudResult<Vec<Line>> {
        let pattern = self.query.text.as_deref().map(quoted);
        let mut events = filter(&self.client, &self.group, &self.query, pattern).await?;
        events.sort_by_key(FilteredLogEvent::timestamp);
        let mut lines = Vec::new();
        for event in events {
            let at_ms = event.timestamp().unwrap_or_default();
            let new = self.seen.insert(event.event_id().unwrap_or_default().to_owned(), at_ms).is_none();
            lines.extend(line(&event).filter(|_| new));
        }
        // Later calls do not list what is older than this, whatever arrives.
        let newest = self.seen.values().max().copied().unwrap_or(i64::MIN);
        self.query.since_ms = self.query.since_ms.max(newest.saturating_sub(LATENESS_MS));
        let since = self.query.since_ms;
        self.seen.retain(|_, at_ms| *at_ms >= since);
        Ok(lines)
    }
}

/// Returns the metrics that the controller has logged since then, the oldest first; none if there is no log group.
///
/// # Errors
/// The log group cannot be read.
pub(crate) async fn samples(client: &Client, cluster: &str, since_ms: i64) -> CloudResult<Vec<Map<String, Value>>> {
    let query = Query { since_ms, ..Query::default() };
    // A term that every sample has. `CloudWatchMetrics` is a member of its specification.
    let found = filter(client, &group(cluster), &query, Some(quoted("CloudWatchMetrics"))).await;
    let events = match found {
        Err(crate::cloud::CloudError::NotFound(_)) => Vec::new(),
        found => found?,
    };
    let mut samples: Vec<_> = events.iter().filter_map(object).filter(|event| event.contains_key("_aws")).collect();
    samples.sort_by_key(|sample| sample["_aws"]["Timestamp"].as_i64());
    Ok(samples)
}

async fn filter(
    client: &Client,
    group: &str,
    query: &Query,
    pattern: Option<String>,
) -> CloudResult<Vec<FilteredLogEvent>> {
    let call = client.filter_log_events().log_group_name(group).start_time(query.since_ms);
    let call = call.set_log_stream_names(query.instance.clone().map(|id| vec![id])).set_filter_pattern(pattern);
    let mut pages = call.into_paginator().recorded().send();
    let mut events = Vec::new();
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => events.extend(page.events.unwrap_or_default()),
            Err(error) if code(&error) == "ResourceNotFoundException" && !group_is_missing(&error) => break,
            Err(error) => return Err(classify(&format!("log group {group}"), error)),
        }
    }
    Ok(events)
}

/// Returns whether it is the group that does not exist: a machine without a stream has not logged yet.
fn group_is_missing<E: std::error::Error + 'static>(error: &E) -> bool {
    !aws_sdk_cloudwatchlogs::error::DisplayErrorContext(error).to_string().contains("log stream")
}

/// Returns the filter pattern of events that contain a text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn object(event: &FilteredLogEvent) -> Option<Map<String, Value>> {
    serde_json::from_str(event.message()?).ok()
}

/// Returns the line of an event; `None` if it has metrics.
fn line(event: &FilteredLogEvent) -> Option<Line> {
    let members = object(event).unwrap_or_default();
    if members.contains_key("_aws") {
        return None;
    }
    let text = |key: &str| members.get(key).and_then(Value::as_str);
    Some(Line {
        at_ms: event.timestamp().unwrap_or_default(),
        instance: event.log_stream_name().unwrap_or_default().to_owned(),
        unit: text("unit").unwrap_or_default().to_owned(),
        message: text("message").or(event.message()).unwrap_or_default().trim_end().to_owned(),
    })
}

/// Time between two readings of a log that is followed. CloudWatch permits five a second in an account.
pub(crate) const FOLLOW_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn event(message: &str) -> FilteredLogEvent {
        FilteredLogEvent::builder().timestamp(1).log_stream_name("i-1").message(message).build()
    }

    #[test]
    fn a_line_shows_the_message_with_its_unit() {
        let found = line(&event(r#"{"message":"ready\n","priority":"info","unit":"rollcall-worker"}"#)).unwrap();
        let expected =
            Line { at_ms: 1, instance: "i-1".into(), unit: "rollcall-worker".into(), message: "ready".into() };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_has_no_message_is_shown_whole_and_metrics_are_not_shown() {
        for whole in ["plain", r#"{"fields":{"message":"x"}}"#] {
            assert_eq!(line(&event(whole)).unwrap().message, whole);
        }
        assert_eq!(line(&event(r#"{"_aws":{},"rollcall_demand_jobs":1}"#)), None);
    }

    #[test]
    fn a_pattern_is_one_phrase_whatever_it_contains() {
        assert_eq!(quoted(r#"no "x" \ -y"#), r#""no \"x\" \\ -y""#);
    }
}

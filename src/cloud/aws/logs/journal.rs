//! The systemd journal: following it, and its entries.

use std::process::Stdio;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};

/// The units whose logs are forwarded. Of a machine's other units, some log the names and addresses of people.
const UNITS: [&str; 5] = ["rollcall-serve", "rollcall-web", "rollcall-controller", "rollcall-worker", "rollcall-logs"];
/// Names of the priorities, which are those of syslog.
const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// When it was logged, in milliseconds since the Unix epoch.
    pub(super) at_ms: i64,
    /// A JSON object with the unit, the priority and the message. A message that is itself an object is extended by the other
    /// two, so that CloudWatch finds its members where they were.
    pub(super) message: String,
    /// Its position in the journal.
    pub(super) cursor: String,
}

/// Starts a process that writes the entries after a position, and then those that are added, one JSON object per line.
///
/// # Errors
/// There is no systemd.
pub(super) fn follow(after: Option<&str>) -> anyhow::Result<Child> {
    let mut command = Command::new("journalctl");
    command.args(["--follow", "--no-tail", "--all", "--quiet", "--output=json"]);
    command.arg("--output-fields=MESSAGE,PRIORITY,UNIT,_SYSTEMD_UNIT");
    command.args(UNITS.map(|unit| format!("--unit={unit}.service")));
    command.args(after.map(|cursor| format!("--after-cursor={cursor}")));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
    child.context("journalctl cannot be started")
}

/// Parses a line of the journal's output; `None` if it is not an entry.
pub(super) fn parse(line: &str) -> Option<Entry> {
    let fields: Map<String, Value> = serde_json::from_str(line).ok()?;
    let cursor = text(fields.get("__CURSOR")?)?;
    let at_us: i64 = text(fields.get("__REALTIME_TIMESTAMP")?)?.parse().ok()?;
    let of = |key| fields.get(key).and_then(text);
    // What systemd itself logs about a unit names it in another field.
    let unit = of("UNIT").or_else(|| of("_SYSTEMD_UNIT")).unwrap_or_default();
    let priority = of("PRIORITY").and_then(|level| level.parse::<usize>().ok());
    let priority = priority.and_then(|level| PRIORITIES.get(level)).unwrap_or(&"info");
    let message = of("MESSAGE").unwrap_or_default();
    let mut event: Map<String, Value> = match serde_json::from_str(&message) {
        Ok(Value::Object(members)) => members,
        _ => Map::from_iter([("message".to_owned(), message.into())]),
    };
    event.insert("unit".to_owned(), json!(unit.trim_end_matches(".service")));
    event.insert("priority".to_owned(), json!(priority));
    Some(Entry { at_ms: at_us / 1000, message: Value::Object(event).to_string(), cursor })
}

/// Returns the text of a field. journalctl writes bytes that are no text as a list of numbers, and fields that occur several
/// times as a list of texts.
fn text(field: &Value) -> Option<String> {
    match field {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) if parts.first().is_some_and(Value::is_string) => text(parts.first()?),
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte.as_u64()?.try_into().ok()).collect::<Option<_>>()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: Value) -> String {
        let mut line = json!({"__CURSOR": "s=1;i=2", "__REALTIME_TIMESTAMP": "1700000000123456"});
        line.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        line.to_string()
    }

    fn message(fields: Value) -> Value {
        serde_json::from_str(&parse(&line(fields)).unwrap().message).unwrap()
    }

    #[test]
    fn an_entry_has_unit_priority_and_message_and_nothing_else_of_the_journal() {
        let fields = json!({"MESSAGE": "it \"runs\"", "PRIORITY": "4", "_SYSTEMD_UNIT": "rollcall-worker.service",
            "_CMDLINE": "secret", "_UID": "998"});
        let entry = parse(&line(fields)).unwrap();
        assert_eq!((entry.at_ms, entry.cursor.as_str()), (1_700_000_000_123, "s=1;i=2"));
        let message: Value = serde_json::from_str(&entry.message).unwrap();
        assert_eq!(message, json!({"unit": "rollcall-worker", "priority": "warning", "message": "it \"runs\""}));
    }

    #[test]
    fn what_systemd_says_of_a_unit_is_the_units() {
        let fields = json!({"MESSAGE": "Main process exited", "UNIT": "rollcall-serve.service",
            "_SYSTEMD_UNIT": "init.scope"});
        assert_eq!(message(fields)["unit"], "rollcall-serve");
    }

    #[test]
    fn a_message_that_is_an_object_keeps_its_members_at_the_root() {
        let fields =
            json!({"MESSAGE": r#"{"_aws":{"Timestamp":1},"rollcall_x":2}"#, "_SYSTEMD_UNIT": "rollcall-serve.service"});
        let expected = json!({"_aws": {"Timestamp": 1}, "rollcall_x": 2, "unit": "rollcall-serve", "priority": "info"});
        assert_eq!(message(fields), expected);
        assert_eq!(message(json!({"MESSAGE": "[1]"}))["message"], "[1]");
    }

    #[test]
    fn bytes_and_repeated_fields_are_text() {
        assert_eq!(message(json!({"MESSAGE": [104, 105, 255]}))["message"], "hi\u{fffd}");
        assert_eq!(message(json!({"MESSAGE": "x", "UNIT": ["a.service", "b.service"]}))["unit"], "a");
        assert_eq!(message(json!({"MESSAGE": null}))["message"], "");
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for line in ["", "-- No entries --", "{}", r#"{"__CURSOR":"x","__REALTIME_TIMESTAMP":"soon"}"#] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}

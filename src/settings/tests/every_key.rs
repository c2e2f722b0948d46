//! What holds for every key of `config/default.toml`.

use std::{collections::BTreeMap, time::Duration};

use config::ValueKind;

use super::support::{MACHINE, defaults, error, file, load, variable};
use crate::settings::{Entry, Settings, reader::Reader};

#[test]
fn every_key_is_read_by_a_section() {
    let layers = defaults();
    let r = Reader::new(&layers);
    assert_eq!(r.unread().len(), layers.entries().count(), "nothing is read yet");
    Settings::here(&r, MACHINE).expect("valid");
    assert_eq!(r.unread(), Vec::<String>::new());
}

/// Returns values in TOML whose type the key does not take, judging by its default.
fn of_wrong_types(default: &ValueKind) -> &'static [&'static str] {
    match default {
        ValueKind::Boolean(_) => &["1", "0.0", "\"perhaps\"", "[true]", "{}"],
        ValueKind::I64(_) | ValueKind::Float(_) => &["true", "\"many\"", "\"yes\"", "\"\"", "[1]", "{}"],
        ValueKind::Array(_) => &["true", "7", "7.5", "[[1]]", "[true]", "{}"],
        // A count may also be "auto".
        ValueKind::String(s) if s == "auto" => &["true", "7.5", "[\"auto\"]", "{}"],
        ValueKind::String(_) => &["true", "7", "7.5", "[\"a\"]", "{}"],
        other => panic!("a default of another type: {other:?}"),
    }
}

#[test]
fn every_key_refuses_wrong_types_and_the_error_names_key_and_source() {
    let layers = defaults();
    for Entry { key, .. } in layers.entries() {
        for value in of_wrong_types(&layers.get(&key).kind) {
            let e = error(Some(&file(&key, value)), &[]);
            assert!(e.contains("mine.toml: ") && e.contains(&key), "{key} = {value}: {e}");
        }
        if matches!(layers.get(&key).kind, ValueKind::Boolean(_) | ValueKind::I64(_) | ValueKind::Float(_)) {
            let variable = variable(&key);
            let e = error(None, &[(&variable, "many")]);
            assert!(e.starts_with(&format!("{variable}: {key} = \"many\": must be ")), "{e}");
        }
    }
    for (section, problem) in [("worker = 5", "`worker`"), ("[worker.threads]\nof = 1", "`worker.threads.of`")] {
        let e = error(Some(section), &[]);
        assert!(e.contains("mine.toml: unknown key") && e.contains(problem), "{e}");
    }
}

/// Returns the comment above each key of `config/default.toml`.
fn documentation() -> BTreeMap<String, String> {
    let (mut section, mut comment, mut all) = (String::new(), String::new(), BTreeMap::new());
    for line in include_str!("../../../config/default.toml").lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            comment.clear();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
        } else if let Some((name, _)) = line.split_once(" = ") {
            all.insert(format!("{section}.{name}"), std::mem::take(&mut comment));
        }
    }
    all
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    Time(Duration),
    Bytes(u64),
    Number(f64),
}

fn bound(text: &str) -> Option<Bound> {
    let text = text.trim_end_matches(['.', ',', ';']);
    let number = || text.parse().ok().map(Bound::Number);
    let bytes = || Some(text).filter(|t| t.ends_with('B'))?.parse::<bytesize::ByteSize>().ok();
    let time = || humantime::parse_duration(text).ok().map(Bound::Time);
    number().or_else(|| bytes().map(|b| Bound::Bytes(b.as_u64()))).or_else(time)
}

/// Returns the last "A to B" of a comment.
fn range(documentation: &str) -> Option<(Bound, Bound)> {
    let words: Vec<&str> = documentation.split_whitespace().collect();
    let ranges = words.windows(3).filter(|w| w[1] == "to").map(|w| Some((bound(w[0])?, bound(w[2])?)));
    ranges.flatten().last()
}

/// Returns the value just below (`up` = false) or above a bound, in TOML, and the bound itself: three times each if the
/// key takes a list.
fn beside(at: Bound, up: bool, default: &ValueKind) -> (Option<String>, String) {
    let step = |n: f64| match (default, up) {
        (ValueKind::Float(_) | ValueKind::Array(_), true) => n + n.abs().max(1.0) * 1e-3,
        (ValueKind::Float(_) | ValueKind::Array(_), false) => n - n.abs() * 1e-3 - f64::EPSILON,
        (_, true) => n + 1.0,
        (_, false) => n - 1.0,
    };
    let time = |d: Duration| format!("\"{}\"", humantime::format_duration(d));
    let bytes = |b: u64| format!("\"{b}B\"");
    let number = |n: f64| match default {
        ValueKind::Array(_) => format!("[{n:?}, {n:?}, {n:?}]"),
        ValueKind::Float(_) => format!("{n:?}"),
        _ => format!("{n}"),
    };
    let tick = Duration::from_millis(1);
    match at {
        Bound::Time(d) => (if up { Some(d + tick) } else { d.checked_sub(tick) }.map(time), time(d)),
        Bound::Bytes(b) => (if up { Some(b + 1) } else { b.checked_sub(1) }.map(bytes), bytes(b)),
        Bound::Number(n) => (Some(number(step(n))), number(n)),
    }
}

/// Keys that are "auto" or a path.
const PATHS: [&str; 5] =
    ["fleet.history", "fleet.record", "recognition.detector", "recognition.embedder", "recognition.runtime"];

#[test]
fn every_key_is_documented_and_its_range_is_the_documented_one() {
    let (layers, documentation) = (defaults(), documentation());
    assert_eq!(documentation.len(), layers.entries().count());
    // Other keys limit these two.
    let room = [("ROLLCALL__FLEET__MAX_INSTANCES", "10000"), ("ROLLCALL__HTTP__MAX_UPLOAD", "1KiB")];
    for (key, text) in documentation {
        assert!(!text.is_empty(), "{key} has no documentation");
        let default = &layers.get(&key).kind;
        let Some((lowest, highest)) = range(&text).filter(|_| !key.ends_with("_prefix")) else {
            let ranged = matches!(default, ValueKind::I64(_) | ValueKind::Float(_))
                || matches!(default, ValueKind::String(s) if bound(s).is_some() || s == "auto");
            assert!(!ranged || PATHS.contains(&key.as_str()), "{key} has no range: {text}");
            continue;
        };
        if matches!(default, ValueKind::String(s) if s != "auto" && bound(s).is_none()) {
            continue; // a range of characters
        }
        let env: Vec<_> = room.into_iter().filter(|(name, _)| *name != variable(&key)).collect();
        for (at, up) in [(lowest, false), (highest, true)] {
            let (outside, inside) = beside(at, up, default);
            load(Some(&file(&key, &inside)), &env).unwrap_or_else(|e| panic!("{key} = {inside}: {e}"));
            if let Some(outside) = outside {
                let e = error(Some(&file(&key, &outside)), &env);
                assert!(e.contains("mine.toml: ") && e.contains(&key) && e.contains(" to "), "{key} = {outside}: {e}");
            }
        }
    }
}

/// Returns a value in TOML that differs from the default.
fn another(key: &str, documentation: &str, default: &ValueKind) -> String {
    match key {
        "fleet.policy" => "\"backlog\"".into(),
        "fleet.keep_stopped" => "1".into(), // its limit is another key
        "fleet.schedule" => "[\"daily 00:00-24:00 1\"]".into(),
        _ => beside(range(documentation).expect("a range").1, true, default).1,
    }
}

#[test]
fn each_rule_of_the_fleet_comes_from_the_setting_of_its_name() {
    let rules = |file: Option<&str>| {
        let rules = load(file, &[]).expect("valid").fleet_rules(Duration::ZERO);
        match serde_json::to_value(rules).expect("serializable") {
            serde_json::Value::Object(fields) => fields,
            other => panic!("no struct: {other}"),
        }
    };
    let (layers, documentation, by_default) = (defaults(), documentation(), rules(None));
    for (field, before) in by_default.iter().filter(|(field, _)| *field != "started_at") {
        let name = if field == "disk_hour" { "disk_gb_month" } else { field }; // computed from it
        let sections = ["fleet", "worker", "prices"].map(|section| format!("{section}.{name}"));
        let key = sections.into_iter().find(|key| documentation.contains_key(key));
        let key = key.unwrap_or_else(|| panic!("no setting is called {field}"));
        let other = rules(Some(&file(&key, &another(&key, &documentation[&key], &layers.get(&key).kind))));
        assert_ne!(&other[field], before, "{key}");
        let changed: Vec<_> = other.iter().filter(|(name, value)| by_default[*name] != **value).collect();
        assert_eq!(changed.len(), 1, "{key}: {changed:?}");
    }
    let at = load(None, &[]).expect("valid").fleet_rules(Duration::from_secs(9));
    assert_eq!(at.started_at, Duration::from_secs(9));
}

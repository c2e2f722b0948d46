use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use config::ValueKind;

use super::{reader::SECOND, *};

fn load(file: Option<&str>, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = file.map(|text| {
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, text).expect("writable");
        path
    });
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<HashMap<_, _>>();
    Settings::from_layers(&Layers::load(path.as_deref(), env)?, 2)
}

fn error(file: Option<&str>, env: &[(&str, &str)]) -> String {
    load(file, env).expect_err("an error").to_string()
}

#[test]
fn defaults_are_valid_and_auto_is_local() {
    let s = load(None, &[]).expect("valid");
    assert_eq!(s.fleet.max_instances, 2);
    assert_eq!(s.worker.idle_stop, Duration::from_secs(30));
    assert_eq!(s.http.max_upload, 20 << 20);
    assert_eq!(s.queue.inline_limit, 180 << 10);
    assert_eq!(s.local.data_dir, PathBuf::from(".rollcall"));
}

#[test]
fn the_environment_beats_the_file_beats_the_default() {
    let file = "[fleet]\nmax_instances = 7\nkeep_stopped = 3\n";
    let s = load(Some(file), &[("ROLLCALL__FLEET__MAX_INSTANCES", "15")]).expect("valid");
    assert_eq!((s.fleet.max_instances, s.fleet.keep_stopped), (15, 3));
    let s = load(None, &[("ROLLCALL__RECOGNITION__CLASSIFIER_MEAN", "0, 0.5,1"), ("HOME", "/x")]).expect("valid");
    assert_eq!(s.recognition.classifier_mean, [0.0, 0.5, 1.0]);
}

#[test]
fn an_unknown_key_names_its_source_and_the_likely_one() {
    let e = error(Some("[fleet]\nmax_instance = 7\n"), &[]);
    assert!(
        e.contains("mine.toml") && e.contains("`fleet.max_instance`") && e.contains("`fleet.max_instances`"),
        "{e}"
    );
    let e = error(None, &[("ROLLCALL__FLEET__NONSENSE", "1")]);
    assert!(e.contains("ROLLCALL__FLEET__NONSENSE"), "{e}");
}

#[test]
fn wrong_units_types_and_ranges_name_source_key_and_what_is_allowed() {
    for (file, parts) in [
        ("[worker]\nidle_stop = 300", ["worker.idle_stop = 300", "such as 30s"]),
        ("[worker]\nidle_stop = \"300\"", ["worker.idle_stop = \"300\"", "such as 30s"]),
        ("[worker]\nidle_stop = \"0s\"", ["worker.idle_stop", "from 1s"]),
        ("[queue]\ninline_limit = \"180\"", ["queue.inline_limit", "with its unit"]),
        ("[queue]\nlistener = \"plain\"", ["queue.listener", ".fifo"]),
        ("[fleet]\nmax_instances = 0", ["fleet.max_instances = 0", "1 to 10000"]),
        ("[fleet]\nmax_instances = 1.5", ["fleet.max_instances = 1.5", "whole number"]),
        ("[fleet]\nkeep_stopped = 9", ["fleet.keep_stopped", "at most fleet.max_instances"]),
        ("[fleet]\nschedule = [\"mon 8-18 2\"]", ["fleet.schedule", "mon-fri 08:00-18:00 2"]),
        ("[fleet]\npolicy = \"fastest\"", ["fleet.policy", "\"deadline\""]),
        ("[http]\nreply = \"xml\"", ["http.reply", "\"label\" or \"stem-label\""]),
        ("[http]\nlisten = \"8080\"", ["http.listen", "127.0.0.1:8080"]),
        ("[store]\ninput_key = \"../{file}\"", ["store.input_key", "{id}"]),
        ("[recognition]\nthreshold = 1.5", ["recognition.threshold", "-1 to 1"]),
        ("[recognition]\nkind = \"classifier\"", ["recognition.kind", "recognition.labels"]),
    ] {
        let e = error(Some(file), &[]);
        assert!(e.contains("mine.toml") && parts.iter().all(|p| e.contains(p)), "{file}: {e}");
    }
}

#[test]
fn a_schedule_is_a_list_or_in_the_environment_a_text_with_semicolons() {
    let file = "[fleet]\nschedule = [\"mon-fri 08:00-18:00 2\", \"sat,sun 10:00-16:00 1\"]\n";
    let windows = load(Some(file), &[]).expect("valid").fleet.schedule;
    assert_eq!(windows.iter().map(|w| w.least).collect::<Vec<_>>(), [2, 1]);
    let env = [("ROLLCALL__FLEET__SCHEDULE", "mon-fri 08:00-18:00 2; sat,sun 10:00-16:00 1")];
    assert_eq!(load(None, &env).expect("valid").fleet.schedule, windows);
}

#[test]
fn broken_files_are_named() {
    let e = error(Some("[fleet\n"), &[]);
    assert!(e.contains("mine.toml"), "{e}");
    let missing = Layers::load(Some(std::path::Path::new("/nowhere/at-all.toml")), HashMap::new());
    assert!(missing.err().expect("an error").to_string().contains("/nowhere/at-all.toml"));
}

#[test]
fn lists_are_arrays_or_text_with_commas() {
    let s =
        load(Some("[aws]\ninstance_types = [\"a\", \"b\"]\n"), &[("ROLLCALL__AWS__SUBNETS", "x, y")]).expect("valid");
    let launch = s.aws.launch;
    assert_eq!(
        (launch.instance_types, launch.subnets),
        (vec!["a".into(), "b".into()], vec!["x".into(), "y".to_owned()])
    );
    assert_eq!((launch.security_groups, launch.image), (vec![], None));
    let e = error(Some("[aws]\nspot = \"perhaps\"\n"), &[]);
    assert!(e.contains("aws.spot") && e.contains("true or false"), "{e}");
}

#[test]
fn the_configuration_for_aws_is_valid_and_auto_follows_it() {
    let s = load(Some(include_str!("../../config/aws.toml")), &[]).expect("valid");
    assert_eq!(s.cloud.kind, CloudKind::Aws);
    assert_eq!(s.worker.idle_stop, Duration::from_secs(90));
    assert_eq!(s.fleet.keep_stopped, 5);
    let few =
        load(Some(include_str!("../../config/aws.toml")), &[("ROLLCALL__FLEET__MAX_INSTANCES", "2")]).expect("valid");
    assert_eq!(few.fleet.keep_stopped, 2, "no more than there may be");
}

#[test]
fn the_report_configuration_is_valid() {
    let s =
        load(Some(include_str!("../../config/report.toml")), &[("ROLLCALL__FLEET__KEEP_STOPPED", "0")]).expect("valid");
    assert_eq!(s.fleet.max_instances, 19);
    assert_eq!(s.fleet.launch_cooldown, Duration::from_secs(45));
}

#[test]
fn the_name_that_the_first_configurations_used_is_an_alias() {
    for name in ["report", "one-per-job"] {
        let s = load(Some(&format!("[fleet]\npolicy = \"{name}\"\n")), &[]).expect("valid");
        assert_eq!(s.fleet.policy.name(), "one-per-job");
    }
}

fn defaults() -> Layers {
    Layers::load(None, HashMap::new()).expect("the defaults")
}

/// `key` with its variable of the environment.
fn variable(key: &str) -> String {
    format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase())
}

/// A file that sets `key` to `value`, which is TOML.
fn file(key: &str, value: &str) -> String {
    let (section, name) = key.split_once('.').expect("section.name");
    format!("[{section}]\n{name} = {value}\n")
}

/// What `config show` prints, by key, on a machine with 2 cores.
fn effective(env: &[(&str, &str)]) -> BTreeMap<String, Entry> {
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let entries = Settings::effective(&Layers::load(None, env).expect("known"), 2).expect("valid");
    entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
}

const CLOUDS_AND_POLICIES: [[(&str, &str); 2]; 4] = [
    [("ROLLCALL__CLOUD__KIND", "local"), ("ROLLCALL__FLEET__POLICY", "deadline")],
    [("ROLLCALL__CLOUD__KIND", "local"), ("ROLLCALL__FLEET__POLICY", "one-per-job")],
    [("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__POLICY", "deadline")],
    [("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__POLICY", "one-per-job")],
];

#[test]
fn every_auto_says_what_it_came_to_and_why() {
    let auto: Vec<Entry> = defaults().entries().filter(|entry| entry.value == "\"auto\"").collect();
    assert!(auto.len() >= 12, "{auto:?}");
    for env in CLOUDS_AND_POLICIES {
        let shown = effective(&env);
        let explained = shown.values().filter(|entry| entry.auto.is_some()).count();
        assert_eq!(explained, auto.len(), "only what is \"auto\" has a reason");
        for Entry { key, .. } in &auto {
            let entry = &shown[key];
            assert!(entry.value != "\"auto\"" && entry.auto.is_some_and(|why| !why.is_empty()), "{entry:?}");
            assert_eq!(entry.origin, "default");
        }
    }
}

#[test]
fn what_auto_came_to_gives_the_same_settings_when_it_is_set() {
    for env in CLOUDS_AND_POLICIES {
        let shown = effective(&env);
        let set: Vec<(String, String)> = shown
            .values()
            .filter(|entry| entry.auto.is_some())
            .map(|entry| (variable(&entry.key), entry.value.trim_matches('"').to_owned()))
            .collect();
        let all: Vec<(&str, &str)> =
            env.into_iter().chain(set.iter().map(|(key, value)| (key.as_str(), value.as_str()))).collect();
        assert_eq!(format!("{:?}", load(None, &all)), format!("{:?}", load(None, &env)), "{set:?}");
        assert!(effective(&all).values().all(|entry| entry.auto.is_none()), "a value that was set is not \"auto\"");
    }
}

#[test]
fn every_key_is_read_by_a_section() {
    let layers = defaults();
    let r = Reader::new(&layers);
    assert_eq!(r.unread().len(), layers.entries().count(), "nothing is read yet");
    Settings::here(&r, 2).expect("valid");
    assert_eq!(r.unread(), Vec::<String>::new());
}

/// Values in TOML whose type the key does not take, judged by its default.
fn of_wrong_types(default: &ValueKind) -> &'static [&'static str] {
    match default {
        ValueKind::Boolean(_) => &["1", "0.0", "\"perhaps\"", "[true]", "{}"],
        ValueKind::I64(_) | ValueKind::Float(_) => &["true", "\"many\"", "\"yes\"", "\"\"", "[1]", "{}"],
        ValueKind::Array(_) => &["true", "7", "7.5", "[[1]]", "[true]", "{}"],
        // A count may be "auto" too.
        ValueKind::String(s) if s == "auto" => &["true", "7.5", "[\"auto\"]", "{}"],
        ValueKind::String(_) => &["true", "7", "7.5", "[\"a\"]", "{}"],
        other => panic!("a default of another type: {other:?}"),
    }
}

#[test]
fn every_key_refuses_other_types_and_names_itself_and_its_source() {
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

/// What `config/default.toml` says above each key.
fn documentation() -> BTreeMap<String, String> {
    let (mut section, mut comment, mut all) = (String::new(), String::new(), BTreeMap::new());
    for line in include_str!("../../config/default.toml").lines() {
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

/// The last "A to B" of a documentation.
fn range(documentation: &str) -> Option<(Bound, Bound)> {
    let words: Vec<&str> = documentation.split_whitespace().collect();
    let ranges = words.windows(3).filter(|w| w[1] == "to").map(|w| Some((bound(w[0])?, bound(w[2])?)));
    ranges.flatten().last()
}

/// The value just below (`up` = false) or above a bound, in TOML, and the bound itself; of three numbers where a list is
/// wanted.
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
        Bound::Bytes(b) => (Some(bytes(if up { b + 1 } else { b - 1 })), bytes(b)),
        Bound::Number(n) => (Some(number(step(n))), number(n)),
    }
}

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
            assert!(!ranged || key == "fleet.record", "{key} has no range: {text}");
            continue;
        };
        if matches!(default, ValueKind::String(s) if s != "auto" && bound(s).is_none()) {
            continue; // The range is of characters.
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

#[test]
fn auto_follows_the_machine_the_cloud_and_the_policy() {
    let s = load(None, &[]).expect("valid");
    assert_eq!((s.worker.threads, s.http.threads, s.fleet.keep_stopped), (1, 2, 0));
    assert_eq!(s.fleet.billing_minimum, Duration::ZERO);
    let aws = |policy: &str| {
        load(None, &[("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__POLICY", policy)]).expect("valid")
    };
    let s = aws("deadline");
    assert_eq!((s.fleet.max_instances, s.fleet.keep_stopped, s.worker.threads), (19, 5, 2));
    assert_eq!((s.fleet.billing_minimum, s.fleet.describe_lag), (60 * SECOND, 15 * SECOND));
    assert_eq!((s.fleet.poll_every, s.fleet.describe_every), (5 * SECOND, 15 * SECOND));
    assert_eq!((s.fleet.boot_cold, s.fleet.boot_warm, s.fleet.record), (25 * SECOND, 15 * SECOND, None));
    let s = aws("one-per-job");
    assert_eq!((s.fleet.keep_stopped, s.worker.idle_stop), (0, 300 * SECOND), "the thresholds of its design");
    let layers = defaults();
    let s = Settings::for_simulation(&layers).expect("valid");
    assert_eq!((s.fleet.max_instances, s.worker.threads), (19, 1), "as on AWS, with one core per instance");
}

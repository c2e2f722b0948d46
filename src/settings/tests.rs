use std::{collections::HashMap, path::PathBuf};

use super::{units::SECOND, *};

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

/// Keys and raw values of the defaults.
fn defaults() -> Layers {
    Layers::load(None, HashMap::new()).expect("the defaults")
}

#[test]
fn every_auto_says_what_it_came_to() {
    for kind in ["local", "aws"] {
        let env = HashMap::from([("ROLLCALL__CLOUD__KIND".to_owned(), kind.to_owned())]);
        let layers = Layers::load(None, env).expect("valid");
        let settings = Settings::from_layers(&layers, 2).expect("valid");
        let resolved = layers.resolved();
        let auto: Vec<String> =
            layers.entries().filter(|(_, value, _)| value == "\"auto\"").map(|(key, ..)| key.to_owned()).collect();
        assert!(auto.len() >= 12, "{auto:?}");
        assert_eq!(resolved.keys().cloned().collect::<Vec<_>>(), auto, "{kind}");
        assert_eq!(resolved["fleet.max_instances"], settings.fleet.max_instances.to_string());
        assert_eq!(resolved["fleet.keep_stopped"], settings.fleet.keep_stopped.to_string());
    }
    let local = defaults();
    Settings::from_layers(&local, 2).expect("valid");
    assert_eq!(local.resolved()["fleet.record"], ".rollcall/fleet.jsonl");
    assert_eq!(local.resolved()["worker.idle_stop"], "30s");
}

#[test]
fn a_value_that_was_set_is_not_called_auto() {
    let env = HashMap::from([("ROLLCALL__WORKER__THREADS".to_owned(), "3".to_owned())]);
    let layers = Layers::load(None, env).expect("valid");
    assert_eq!(Settings::from_layers(&layers, 2).expect("valid").worker.threads, 3);
    assert!(!layers.resolved().contains_key("worker.threads"));
}

#[test]
fn every_key_is_read_by_a_section_and_refuses_a_table_with_its_source() {
    let layers = defaults();
    Settings::from_layers(&layers, 2).expect("valid");
    let keys: Vec<String> = layers.entries().map(|(key, ..)| key.to_owned()).collect();
    assert_eq!(layers.read.borrow().iter().cloned().collect::<Vec<_>>(), keys, "a key that no section reads");
    for key in keys {
        let (section, name) = key.split_once('.').expect("section.name");
        let e = error(Some(&format!("[{section}]\n{name} = [[1]]\n")), &[]);
        assert!(e.contains("mine.toml") && e.contains(&key), "{key}: {e}");
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

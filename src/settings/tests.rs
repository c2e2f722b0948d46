mod auto;
mod every_key;
mod support;

use std::collections::HashMap;

use support::{error, file, load};

use super::*;

#[test]
fn the_environment_overrides_the_file_which_overrides_the_defaults() {
    let file = "[fleet]\nmax_instances = 7\nkeep_stopped = 3\n";
    let s = load(Some(file), &[("ROLLCALL__FLEET__MAX_INSTANCES", "15")]).expect("valid");
    assert_eq!((s.fleet.max_instances, s.fleet.keep_stopped), (15, 3));
    let s = load(None, &[("ROLLCALL__RECOGNITION__CLASSIFIER_MEAN", "0, 0.5,1"), ("HOME", "/x")]).expect("valid");
    assert_eq!(s.recognition.classifier_mean, [0.0, 0.5, 1.0]);
}

#[test]
fn the_error_for_an_unknown_key_names_its_source_and_suggests_a_key() {
    let e = error(Some("[fleet]\nmax_instance = 7\n"), &[]);
    assert!(
        e.contains("mine.toml") && e.contains("`fleet.max_instance`") && e.contains("`fleet.max_instances`"),
        "{e}"
    );
    let e = error(None, &[("ROLLCALL__FLEET__NONSENSE", "1")]);
    assert!(e.contains("ROLLCALL__FLEET__NONSENSE"), "{e}");
}

#[test]
fn wrong_values_are_reported_with_source_key_and_allowed_values() {
    for (file, parts) in [
        ("[worker]\nidle_stop = 300", ["worker.idle_stop = 300", "such as 30s"]),
        ("[worker]\nidle_stop = \"300\"", ["worker.idle_stop = \"300\"", "such as 30s"]),
        ("[worker]\nidle_stop = \"0s\"", ["worker.idle_stop", "from 1s"]),
        ("[queue]\ninline_limit = \"180\"", ["queue.inline_limit", "with its unit"]),
        ("[http]\nmax_upload = \"2000000\"", ["http.max_upload = \"2000000\"", "with its unit"]),
        ("[recognition]\nclassifier_std = [1, 1, 0]", ["recognition.classifier_std = [1, 1, 0]", "three numbers"]),
        ("[recognition]\nclassifier_mean = [0, 0]", ["recognition.classifier_mean = [0, 0]", "three numbers"]),
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
        ("http.listen = {}", ["http.listen", "must be a value, not a table"]),
        ("[[gallery.max_people]]", ["gallery.max_people", "must be a value, not a table"]),
        ("[[fleet.schedule]]\nfrom.hour = 8", ["fleet.schedule", "must be a value, not a table"]),
        ("http.hosts = [[{ a = { b = 1 } }]]", ["http.hosts", "must be a value, not a table"]),
        ("[http.listen]\nport = 80", ["unknown key", "http.listen.port"]),
        ("http = 3", ["unknown key", "`http`"]),
        ("[htp]", ["unknown key", "`htp`"]),
    ] {
        let e = error(Some(file), &[]);
        assert!(e.contains("mine.toml") && parts.iter().all(|p| e.contains(p)), "{file}: {e}");
    }
}

#[test]
fn a_schedule_is_a_list_or_a_semicolon_separated_string_in_the_environment() {
    let file = "[fleet]\nschedule = [\"mon-fri 08:00-18:00 2\", \"sat,sun 10:00-16:00 1\"]\n";
    let windows = load(Some(file), &[]).expect("valid").fleet.schedule;
    assert_eq!(windows.iter().map(|w| w.minimum).collect::<Vec<_>>(), [2, 1]);
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
fn lists_are_arrays_or_comma_separated_strings() {
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
    assert_eq!(few.fleet.keep_stopped, 2, "at most fleet.max_instances");
}

#[test]
fn the_report_configuration_is_valid() {
    let s = load(Some(include_str!("../../config/report.toml")), &[]).expect("valid");
    assert_eq!(s.fleet.max_instances, 19);
    assert_eq!(s.fleet.launch_cooldown, Duration::from_secs(45));
}

#[test]
fn report_is_an_alias_of_the_policy_one_per_job() {
    for name in ["report", "one-per-job"] {
        let s = load(Some(&format!("[fleet]\npolicy = \"{name}\"\n")), &[]).expect("valid");
        assert_eq!(s.fleet.policy.name(), "one-per-job");
    }
}

#[test]
fn names_are_limited_to_characters_and_lengths_valid_on_all_clouds() {
    let name = |length: usize| "n".repeat(length);
    let accepted = [
        ("cloud.cluster", name(32)),
        ("cloud.cluster", "0-a".into()),
        ("store.input", name(63)),
        ("fleet.name_prefix", name(64)),
        ("queue.listener", name(75) + ".fifo"),
        ("queue.listener", "A_b-9.fifo".into()),
        ("queue.speaker", name(80)),
        ("queue.speaker", "A_b-9".into()),
        ("store.input_key", "photos/{stem}".into()),
        ("store.output_key", "{file}".into()),
        ("log.level", "info,rollcall=debug".into()),
    ];
    for (key, value) in accepted {
        load(Some(&file(key, &format!("'{value}'"))), &[]).unwrap_or_else(|e| panic!("{e}"));
    }
    let refused = [
        ("cloud.cluster", name(33), "1 to 32 characters of a-z 0-9 and -"),
        ("cloud.cluster", String::new(), "1 to 32 characters of a-z 0-9 and -"),
        ("cloud.cluster", "-a".into(), "beginning with a letter or digit"),
        ("cloud.cluster", "A".into(), "a-z"),
        ("cloud.cluster", "a_b".into(), "a-z"),
        ("store.state", name(64), "1 to 63"),
        ("fleet.name_prefix", name(65), "1 to 64"),
        ("queue.listener", name(76) + ".fifo", "1 to 80"),
        ("queue.dead_letter", ".fifo".into(), "ending in .fifo"),
        ("queue.dead_letter", "a b.fifo".into(), "A-Z a-z 0-9 - _"),
        ("queue.speaker", name(81), "1 to 80"),
        ("queue.speaker", String::new(), "1 to 80"),
        ("queue.speaker", "a.fifo".into(), "without .fifo"),
        ("store.input_key", "photo".into(), "at least one of them"),
        ("store.input_key", "/{id}".into(), "{id}/{file}"),
        ("store.input_key", "a/../{id}".into(), "{id}/{file}"),
        ("store.input_key", "{id}/{name}".into(), "{id}/{file}"),
        ("store.output_key", "{id}\\x".into(), "{id}/{file}"),
        ("log.level", "rollcall=loud".into(), "info,rollcall=debug"),
    ];
    for (key, value, allowed) in refused {
        let e = error(Some(&file(key, &format!("'{value}'"))), &[]);
        assert!(e.contains(key) && e.contains(allowed), "{key} = {value}: {e}");
    }
}

#[test]
fn checks_across_keys_allow_the_limit_itself() {
    for allowed in [
        "[fleet]\nmax_instances = 3\nkeep_stopped = 3",
        "[http]\nmax_upload = \"3MiB\"\nmax_upload_memory = \"3MiB\"",
        "[recognition]\nkind = \"classifier\"\nclassifier = \"a.onnx\"\nlabels = \"a.txt\"",
    ] {
        load(Some(allowed), &[]).unwrap_or_else(|e| panic!("{e}"));
    }
    for (refused, key) in [
        ("[fleet]\nmax_instances = 3\nkeep_stopped = 4", "fleet.keep_stopped = 4"),
        ("[http]\nmax_upload = \"3MiB\"\nmax_upload_memory = \"2MiB\"", "http.max_upload_memory = \"2MiB\""),
        ("[recognition]\nkind = \"classifier\"\nclassifier = \"a.onnx\"", "recognition.kind = \"classifier\""),
        ("[recognition]\nkind = \"classifier\"\nlabels = \"a.txt\"", "recognition.kind = \"classifier\""),
    ] {
        let e = error(Some(refused), &[]);
        assert!(e.contains(key), "{refused}: {e}");
    }
}

#[test]
fn an_empty_string_means_unset() {
    let s =
        load(Some("[fleet]\nrecord = \"\"\n[aws]\nregion = \"\"\nsubnets = [\"\", \" a \"]\n"), &[]).expect("valid");
    assert_eq!((s.fleet.record, s.aws.region, s.aws.launch.subnets), (None, None, vec!["a".to_owned()]));
    let s = load(Some("[fleet]\nrecord = \"log.jsonl\"\n[aws]\nregion = \"eu-west-1\"\n"), &[]).expect("valid");
    assert_eq!((s.fleet.record, s.aws.region), (Some("log.jsonl".into()), Some("eu-west-1".to_owned())));
}

#[test]
fn numbers_and_flags_are_read_from_the_environment_too() {
    let env = [
        ("ROLLCALL__AWS__SPOT", "true"),
        ("ROLLCALL__RECOGNITION__THRESHOLD", "0.5"),
        ("ROLLCALL__PRICES__DISK_GB", "16"),
        ("ROLLCALL__QUEUE__INLINE_LIMIT", "64KiB"),
    ];
    let s = load(None, &env).expect("valid");
    assert_eq!(
        (s.aws.launch.spot, s.recognition.threshold, s.prices.disk_gb),
        (true, Threshold::Similarity(0.5), 16.0)
    );
    assert_eq!(s.queue.inline_limit, 64 << 10);
}

#[test]
fn a_file_is_named_even_if_its_path_has_the_word_environment() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("the environment.toml");
    std::fs::write(&path, "[worker]\nthreads = 0\n").expect("writable");
    let layers = Layers::load(Some(&path), HashMap::new()).expect("known keys");
    let e = Settings::from_layers(&layers, support::MACHINE).expect_err("an error").to_string();
    assert!(e.contains("the environment.toml: worker.threads"), "{e}");
}

#[test]
fn an_unknown_key_that_resembles_no_other_gets_no_suggestion() {
    let e = error(Some("[worker]\ncolour_of_the_sky = 1\n"), &[]);
    assert!(
        e.contains("`worker.colour_of_the_sky`") && e.contains("config/default.toml") && !e.contains("did you mean"),
        "{e}"
    );
}

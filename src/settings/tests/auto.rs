//! How "auto" is resolved, and what `config show` prints for it.

use std::{path::PathBuf, time::Duration};

use super::support::{defaults, effective, load, variable};
use crate::settings::{
    Entry, Settings,
    reader::{MILLISECOND, SECOND},
};

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
fn auto_follows_the_machine_the_cloud_and_the_policy() {
    let s = load(None, &[]).expect("valid");
    assert_eq!((s.worker.threads, s.http.threads, s.fleet.keep_stopped), (1, 2, 0));
    assert_eq!(s.fleet.billing_minimum, Duration::ZERO);
    assert_eq!((s.fleet.poll_every, s.fleet.describe_every), (500 * MILLISECOND, SECOND));
    assert_eq!((s.fleet.boot_cold, s.fleet.boot_warm, s.fleet.describe_lag), (SECOND, SECOND, Duration::ZERO));
    let s = load(None, &[("ROLLCALL__FLEET__POLICY", "one-per-job")]).expect("valid");
    assert_eq!(
        (s.fleet.keep_stopped, s.worker.idle_stop),
        (0, 30 * SECOND),
        "the embedded cloud has values of its own"
    );
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
fn auto_keeps_no_more_stopped_instances_than_there_may_be() {
    for (most, kept) in [(1, 1), (4, 4), (5, 5), (6, 5)] {
        let most = most.to_string();
        let env = [("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__MAX_INSTANCES", most.as_str())];
        assert_eq!(load(None, &env).expect("valid").fleet.keep_stopped, kept, "of {most}");
    }
}

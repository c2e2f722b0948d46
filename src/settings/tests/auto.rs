//! How "auto" is resolved, and what `config show` prints for it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::support::{MACHINE, defaults, effective, load, load_on, variable};
use crate::settings::{
    Entry, Int8, Machine, SFACE_FP32, SFACE_INT8, Settings,
    reader::{MILLISECOND, SECOND},
};

const CLOUDS_AND_POLICIES: [[(&str, &str); 2]; 4] = [
    [("ROLLCALL__CLOUD__KIND", "local"), ("ROLLCALL__FLEET__POLICY", "deadline")],
    [("ROLLCALL__CLOUD__KIND", "local"), ("ROLLCALL__FLEET__POLICY", "one-per-job")],
    [("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__POLICY", "deadline")],
    [("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__POLICY", "one-per-job")],
];

const CPUS: [Int8; 4] = [Int8::Avx512Vnni, Int8::AvxVnni, Int8::NoVnni, Int8::NotX86];

#[test]
fn every_auto_setting_reports_its_resolved_value_and_the_reason() {
    let auto: Vec<Entry> = defaults().entries().filter(|entry| entry.value == "\"auto\"").collect();
    assert!(auto.len() >= 12, "{auto:?}");
    for env in CLOUDS_AND_POLICIES {
        let shown = effective(MACHINE, &env);
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
fn setting_the_resolved_auto_values_gives_the_same_settings() {
    let on_every_cpu = |env| CPUS.map(|int8| (Machine { int8, ..MACHINE }, env));
    for (machine, env) in CLOUDS_AND_POLICIES.into_iter().flat_map(on_every_cpu) {
        let shown = effective(machine, &env);
        let set: Vec<(String, String)> = shown
            .values()
            .filter(|entry| entry.auto.is_some())
            .map(|entry| (variable(&entry.key), entry.value.trim_matches('"').to_owned()))
            .collect();
        let all: Vec<(&str, &str)> =
            env.into_iter().chain(set.iter().map(|(key, value)| (key.as_str(), value.as_str()))).collect();
        let settings = |env: &[(&str, &str)]| {
            let mut settings = load_on(machine, None, env).expect("valid");
            settings.recognition.embedder_is_auto = false; // an embedder that was set is not replaced
            settings.worker.threads_are_auto = false; // nor is a number of threads
            format!("{settings:?}")
        };
        assert_eq!(settings(&all), settings(&env), "{set:?}");
        let shown = effective(machine, &all);
        assert!(shown.values().all(|entry| entry.auto.is_none()), "a value that was set is not \"auto\"");
    }
}

#[test]
fn auto_chooses_the_int8_embedder_where_the_cpu_has_vnni() {
    for (int8, file, why) in [
        (Int8::Avx512Vnni, SFACE_INT8, "AVX-512 VNNI"),
        (Int8::AvxVnni, SFACE_INT8, "has AVX-VNNI"),
        (Int8::NoVnni, SFACE_FP32, "no VNNI"),
        (Int8::NotX86, SFACE_FP32, "x86-64 only"),
    ] {
        let machine = Machine { int8, ..MACHINE };
        let recognition = load_on(machine, None, &[]).expect("valid").recognition;
        assert_eq!(recognition.embedder, PathBuf::from(file), "{int8:?}");
        let shown = &effective(machine, &[])["recognition.embedder"];
        assert_eq!(shown.value, format!("{file:?}"));
        assert!(shown.auto.expect("a reason").contains(why), "{shown:?}");

        let substitute = recognition.with_embedder_for_any_cpu();
        assert_eq!(substitute.is_some(), file == SFACE_INT8, "fp32 has no substitute");
        assert!(substitute.is_none_or(|other| other.embedder.as_path() == Path::new(SFACE_FP32)));
    }
}

#[test]
fn an_installed_program_uses_the_models_that_were_installed_with_it() {
    let machine = Machine { int8: Int8::AvxVnni, installed: Some(Path::new("/opt/lib/rollcall")), ..MACHINE };
    let recognition = load_on(machine, None, &[]).expect("valid").recognition;
    assert_eq!(recognition.runtime, Path::new("/opt/lib/rollcall/onnxruntime/libonnxruntime.so"));
    assert_eq!(recognition.detector, Path::new("/opt/lib/rollcall/models/face_detection_yunet_2023mar.onnx"));
    let names = [SFACE_INT8, SFACE_FP32].map(|path| path.replace(".assets", "/opt/lib/rollcall"));
    assert_eq!(recognition.embedder, PathBuf::from(&names[0]));
    let other = recognition.with_embedder_for_any_cpu().expect("fp32");
    assert_eq!(other.embedder, PathBuf::from(&names[1]));
    assert!(recognition.files().iter().all(|file| file.starts_with("/opt/lib/rollcall")), "{:?}", recognition.files());
}

#[test]
fn an_embedder_that_is_set_is_used_on_every_cpu() {
    for int8 in CPUS {
        let env = [("ROLLCALL__RECOGNITION__EMBEDDER", SFACE_INT8)];
        let recognition = load_on(Machine { int8, ..MACHINE }, None, &env).expect("valid").recognition;
        assert_eq!(recognition.embedder, PathBuf::from(SFACE_INT8));
        assert!(recognition.with_embedder_for_any_cpu().is_none(), "nothing takes its place");
        assert_eq!(recognition.files().last(), Some(&PathBuf::from(SFACE_INT8)));
    }
}

#[test]
fn workers_have_the_files_of_every_embedder_that_auto_may_choose() {
    let files = |int8, env: &[(&str, &str)]| {
        let recognition = load_on(Machine { int8, ..MACHINE }, None, env).expect("valid").recognition;
        let files = recognition.files().into_iter();
        files.map(|file| file.file_name().expect("a name").to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    for int8 in CPUS {
        let all = [
            "libonnxruntime.so",
            "face_detection_yunet_2023mar.onnx",
            "face_recognition_sface_2021dec.onnx",
            "face_recognition_sface_2021dec_int8.onnx",
        ];
        assert_eq!(files(int8, &[]), all, "whatever the CPU of this machine is");
        let set = [("ROLLCALL__RECOGNITION__EMBEDDER", "mine.onnx")];
        assert_eq!(files(int8, &set), [all[0], all[1], "mine.onnx"]);
        let classifier = [
            ("ROLLCALL__RECOGNITION__KIND", "classifier"),
            ("ROLLCALL__RECOGNITION__CLASSIFIER", "a.onnx"),
            ("ROLLCALL__RECOGNITION__LABELS", "a.txt"),
        ];
        assert_eq!(files(int8, &classifier), [all[0], "a.onnx", "a.txt"]);
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
    assert_eq!(s.fleet.history, None);
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
fn auto_keep_stopped_never_exceeds_max_instances() {
    for (most, kept) in [(1, 1), (4, 4), (5, 5), (6, 5)] {
        let most = most.to_string();
        let env = [("ROLLCALL__CLOUD__KIND", "aws"), ("ROLLCALL__FLEET__MAX_INSTANCES", most.as_str())];
        assert_eq!(load(None, &env).expect("valid").fleet.keep_stopped, kept, "of {most}");
    }
}

//! Runs of the simulator for tests.

use std::{collections::HashMap, path::Path};

use rollcall::{
    settings::{Layers, Settings},
    simulator::{Contender, Report, Run, Trace, simulate},
};

/// Settings of the simulator: the defaults, a file of the package, and keys that override both.
pub fn settings(file: Option<&str>, keys: &[(&str, &str)]) -> Settings {
    let env: HashMap<String, String> = keys
        .iter()
        .map(|(key, value)| (format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase()), (*value).to_owned()))
        .collect();
    let layers = Layers::load(file.map(Path::new), env).expect("settings that exist");
    Settings::for_simulation(&layers).expect("settings that are allowed")
}

/// A run of a trace that is there.
pub fn run(settings: &Settings, contender: Contender, trace: &str, seed: u64) -> Run {
    let trace = Trace::named(trace, &settings.simulate, seed).expect("a trace");
    simulate(settings, contender, &trace, seed)
}

/// A run with every request answered.
pub fn report(settings: &Settings, contender: Contender, trace: &str, seed: u64) -> Report {
    let report = run(settings, contender, trace, seed).report;
    assert_eq!(report.completed, report.requests, "seed {seed}: not every request was answered");
    report
}

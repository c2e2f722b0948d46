//! Runs the simulator for tests.

use std::{collections::HashMap, path::Path};

use rollcall::{
    cli::simulate::parameters,
    settings::{Layers, Settings},
    simulator::{ControllerKind, Report, Run, Trace, simulate},
};

/// Returns the settings for the simulator: the defaults, a file of the package, and keys that override both.
pub fn settings(file: Option<&str>, keys: &[(&str, &str)]) -> Settings {
    let env: HashMap<String, String> = keys
        .iter()
        .map(|(key, value)| (format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase()), (*value).to_owned()))
        .collect();
    let layers = Layers::load(file.map(Path::new), env).expect("settings that exist");
    Settings::for_simulation(&layers).expect("settings that are allowed")
}

/// Runs a trace by its name.
pub fn run(settings: &Settings, kind: ControllerKind, trace: &str, seed: u64) -> Run {
    let parameters = parameters(settings);
    let trace = Trace::named(trace, parameters.cloud.service, seed).expect("a trace");
    simulate(&parameters, kind, &trace, seed)
}

/// Runs a trace by its name, and checks that every request was answered.
pub fn report(settings: &Settings, kind: ControllerKind, trace: &str, seed: u64) -> Report {
    let report = run(settings, kind, trace, seed).report;
    assert_eq!(report.completed, report.requests, "seed {seed}: not every request was answered");
    report
}

//! Loads settings from files and environments that a test specifies.

use std::collections::{BTreeMap, HashMap};

use crate::settings::{Entry, Int8, Layers, Machine, Settings, SettingsError};

/// A machine with two cores that runs the fp32 embedder.
pub(super) const MACHINE: Machine = Machine { cores: 2, int8: Int8::NoVnni, installed: None };

pub(super) fn load(file: Option<&str>, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    load_on(MACHINE, file, env)
}

pub(super) fn load_on(machine: Machine, file: Option<&str>, env: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = file.map(|text| {
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, text).expect("writable");
        path
    });
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<HashMap<_, _>>();
    Settings::from_layers(&Layers::load(path.as_deref(), env)?, machine)
}

pub(super) fn error(file: Option<&str>, env: &[(&str, &str)]) -> String {
    load(file, env).expect_err("an error").to_string()
}

pub(super) fn defaults() -> Layers {
    Layers::load(None, HashMap::new()).expect("the defaults")
}

/// Returns the environment variable of `key`.
pub(super) fn variable(key: &str) -> String {
    format!("ROLLCALL__{}", key.replace('.', "__").to_uppercase())
}

/// Returns a file that sets `key` to `value`, in TOML.
pub(super) fn file(key: &str, value: &str) -> String {
    let (section, name) = key.split_once('.').expect("section.name");
    format!("[{section}]\n{name} = {value}\n")
}

/// Returns what `config show` prints, by key.
pub(super) fn effective(machine: Machine, env: &[(&str, &str)]) -> BTreeMap<String, Entry> {
    let env = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let entries = Settings::effective(&Layers::load(None, env).expect("known"), machine).expect("valid");
    entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
}

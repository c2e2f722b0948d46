//! The configuration file of the chosen point.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::Path,
};

use super::{text::saving, tuned::Tuned};
use crate::settings::{Layers, SettingsError};

/// Returns the present configuration file with the chosen settings, and what they save as comments.
///
/// # Errors
/// The present file is not valid.
pub fn text(tuned: &Tuned, config: Option<&Path>) -> Result<String, SettingsError> {
    let layers = Layers::load(config, HashMap::new())?;
    let own = layers.entries().filter(|entry| !entry.is_default()).map(|entry| (entry.key, entry.value));
    let mut keys: BTreeMap<String, String> = own.collect();
    keys.extend(tuned.chosen.settings.clone());
    let mut out = String::from("# Written by `rollcall tune`.\n");
    // Writing to a String cannot fail.
    for line in saving(tuned).lines() {
        let _ = writeln!(out, "# {line}");
    }
    let mut section = "";
    for (key, value) in &keys {
        let (of, name) = key.split_once('.').unwrap_or(("", key));
        if of != section {
            let _ = write!(out, "\n[{of}]\n");
            section = of;
        }
        let _ = writeln!(out, "{name} = {value}");
    }
    Ok(out)
}

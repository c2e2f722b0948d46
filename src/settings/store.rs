//! `[store]`: buckets and keys.

use super::layers::{Layers, SettingsError};

/// `[store]`.
#[derive(Clone, Debug)]
pub struct Store {
    /// Bucket of payloads.
    pub input: String,
    /// Template of their keys.
    pub input_key: String,
    /// Bucket of summaries.
    pub output: String,
    /// Template of their keys.
    pub output_key: String,
    /// Bucket of everything else.
    pub state: String,
}

impl Store {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            input: l.name("store.input", 63)?,
            input_key: l.key_template("store.input_key")?,
            output: l.name("store.output", 63)?,
            output_key: l.key_template("store.output_key")?,
            state: l.name("store.state", 63)?,
        })
    }
}

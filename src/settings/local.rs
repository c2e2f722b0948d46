//! `[local]`: the embedded cloud.

use std::path::PathBuf;

use super::layers::{Layers, SettingsError};

/// `[local]`.
#[derive(Clone, Debug)]
pub struct Local {
    /// Folder of the queues and the objects.
    pub data_dir: PathBuf,
}

impl Local {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self { data_dir: l.path("local.data_dir")? })
    }
}

//! `[local]`: the embedded cloud.

use std::path::PathBuf;

use super::{layers::SettingsError, reader::Reader};

/// Settings of the embedded cloud.
#[derive(Clone, Debug)]
pub struct Local {
    /// Folder of the embedded queues and objects.
    pub data_dir: PathBuf,
}

impl Local {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self { data_dir: r.path("local.data_dir")? })
    }
}

//! `[local]`: the embedded cloud.

use std::path::PathBuf;

use super::{
    layers::SettingsError,
    reader::{GIB, Reader},
};

/// Largest limit of bytes: 1 PiB.
const MAX: u64 = GIB << 20;

/// Settings of the embedded cloud.
#[derive(Clone, Debug)]
pub struct Local {
    /// Folder of the embedded queues and objects.
    pub data_dir: PathBuf,
    /// Bytes of the data folder from which nothing more is accepted; 0 for no limit.
    pub max_bytes: u64,
    /// Free bytes of the disk below which nothing more is accepted; 0 for no limit.
    pub min_free: u64,
}

impl Local {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            data_dir: r.path("local.data_dir")?,
            max_bytes: r.size("local.max_bytes", 0..=MAX)? as u64,
            min_free: r.size("local.min_free", 0..=MAX)? as u64,
        })
    }
}

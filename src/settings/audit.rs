//! `[audit]`: the audit log.

use std::time::Duration;

use super::{
    layers::SettingsError,
    reader::Reader,
    store::{DAY, MAX_DAYS},
};

/// Settings of the audit log.
#[derive(Clone, Debug)]
pub struct Audit {
    /// How long lines are kept on one machine; `None` for ever.
    pub retention: Option<Duration>,
}

impl Audit {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        let days = r.count("audit.retention_days", 0..=MAX_DAYS)?;
        Ok(Self { retention: (days > 0).then(|| DAY * days as u32) })
    }
}

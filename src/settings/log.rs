//! `[log]`: logging.

use tracing_subscriber::EnvFilter;

use super::{layers::SettingsError, reader::Reader};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for human readers.
    Text,
    /// One JSON object per line.
    Json,
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct Log {
    /// A level, or a filter in the syntax of `tracing-subscriber`.
    pub level: String,
    /// The format of log lines.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        let allowed = "error, warn, info, debug, trace or a filter such as info,rollcall=debug";
        Ok(Self {
            level: r.checked("log.level", allowed, |level| EnvFilter::try_new(level).is_ok())?,
            format: r.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
        })
    }
}

//! `[log]`: log lines.

use tracing_subscriber::EnvFilter;

use super::{layers::SettingsError, reader::Reader};

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// A level, or a filter that `tracing-subscriber` parses.
    pub level: String,
    /// How a line is written.
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

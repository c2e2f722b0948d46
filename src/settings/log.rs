//! `[log]`: log lines.

use super::layers::{Layers, SettingsError};

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
    /// A level, or a filter as `tracing-subscriber` reads it.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

impl Log {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            level: l.text("log.level")?,
            format: l.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
        })
    }
}

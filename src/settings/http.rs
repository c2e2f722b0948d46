//! `[http]`: the web tier.

use std::{net::SocketAddr, time::Duration};

use super::{
    auto::Auto,
    layers::{Layers, SettingsError},
    units::{HOUR, MIB, SECOND},
};

/// How `POST /` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStyle {
    /// The label alone.
    Label,
    /// The stem of the file's name, a colon and the label.
    StemLabel,
}

/// `[http]`.
#[derive(Clone, Debug)]
pub struct Http {
    /// Address to serve on.
    pub listen: SocketAddr,
    /// How `POST /` answers.
    pub reply: ReplyStyle,
    /// Longest wait for a reply.
    pub deadline: Duration,
    /// Largest upload, bytes.
    pub max_upload: usize,
    /// Longest time for one upload to arrive.
    pub upload_timeout: Duration,
    /// Uploads that may wait at once.
    pub max_waiting: usize,
    /// Memory of all uploads together, bytes.
    pub max_upload_memory: usize,
    /// Threads that serve.
    pub threads: usize,
    /// Files in one upload.
    pub max_files: usize,
}

impl Http {
    pub(super) fn from_layers(l: &Layers, auto: Auto) -> Result<Self, SettingsError> {
        let styles = [("label", ReplyStyle::Label), ("stem-label", ReplyStyle::StemLabel)];
        let http = Self {
            listen: l.parsed("http.listen", "an address and a port such as 127.0.0.1:8080")?,
            reply: l.choice("http.reply", &styles)?,
            deadline: l.duration("http.deadline", SECOND, HOUR)?,
            max_upload: l.size("http.max_upload", 1 << 10, 512 * MIB)?,
            upload_timeout: l.duration("http.upload_timeout", SECOND, HOUR)?,
            max_waiting: l.count("http.max_waiting", 1, 100_000)?,
            max_upload_memory: l.size("http.max_upload_memory", 1 << 10, 65_536 * MIB)?,
            threads: l.count_or_auto("http.threads", 1, 256, auto.cores.min(4))?,
            max_files: l.count("http.max_files", 1, 1000)?,
        };
        if http.max_upload_memory < http.max_upload {
            return Err(l.invalid("http.max_upload_memory", "at least http.max_upload"));
        }
        Ok(http)
    }
}

//! `[queue]`: the queues of a cluster.

use std::time::Duration;

use super::{
    layers::SettingsError,
    reader::{HOUR, KIB, Reader, SECOND},
};

/// Longest name of a queue in SQS, including `.fifo`.
const MAX_NAME: usize = 80;

/// Settings of the queues.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Name of the request queue, which is FIFO.
    pub listener: String,
    /// Name of the reply queue, which is standard; with several web nodes, the prefix of the name of each node's queue.
    pub speaker: String,
    /// Name of the dead-letter queue of `listener`.
    pub dead_letter: String,
    /// Name of the queue of the workers' heartbeats, which is standard. Only on AWS.
    pub status: String,
    /// How long a received job stays hidden unless it is extended.
    pub visibility: Duration,
    /// Receives after which a job moves to the dead-letter queue.
    pub max_receives: u32,
    /// Largest image in bytes (before base64) that travels in its message; a larger one goes through the store.
    pub inline_limit: usize,
    /// Jobs in the request queue from which no more are accepted; 0 for no limit. Not on AWS.
    pub max_jobs: u64,
}

impl Queue {
    pub(super) fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        Ok(Self {
            listener: fifo_name(r, "queue.listener")?,
            speaker: standard_name(r, "queue.speaker")?,
            dead_letter: fifo_name(r, "queue.dead_letter")?,
            status: standard_name(r, "queue.status")?,
            visibility: r.duration("queue.visibility", SECOND..=12 * HOUR)?,
            max_receives: r.count("queue.max_receives", 1..=1000)? as u32,
            inline_limit: r.size("queue.inline_limit", KIB..=700 * KIB)?,
            max_jobs: r.count("queue.max_jobs", 0..=1_000_000_000)? as u64,
        })
    }
}

fn standard_name(r: &Reader<'_>, key: &'static str) -> Result<String, SettingsError> {
    r.checked(key, "1 to 80 characters of A-Z a-z 0-9 - _, without .fifo", |name| {
        is_name(name) && name.len() <= MAX_NAME
    })
}

fn fifo_name(r: &Reader<'_>, key: &'static str) -> Result<String, SettingsError> {
    r.checked(key, "1 to 80 characters of A-Z a-z 0-9 - _, ending in .fifo", |name| {
        name.strip_suffix(".fifo").is_some_and(is_name) && name.len() <= MAX_NAME
    })
}

/// Returns whether the text is not empty and SQS allows its characters.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

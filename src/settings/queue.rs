//! `[queue]`: the queues of a cluster.

use std::time::Duration;

use super::{
    layers::{Layers, SettingsError},
    units::{HOUR, SECOND},
};

/// `[queue]`.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Name of the request queue.
    pub listener: String,
    /// Name of the reply queue; of other web nodes, the beginning of its name.
    pub speaker: String,
    /// Name of the queue of jobs that were received too often.
    pub dead_letter: String,
    /// How long a received job stays hidden unless it is extended.
    pub visibility: Duration,
    /// After so many receives a job is given up.
    pub max_receives: u32,
    /// Payloads of more bytes (before base64) go through the store.
    pub inline_limit: usize,
}

impl Queue {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            listener: l.queue_name("queue.listener", true)?,
            speaker: l.queue_name("queue.speaker", false)?,
            dead_letter: l.queue_name("queue.dead_letter", true)?,
            visibility: l.duration("queue.visibility", SECOND, 12 * HOUR)?,
            max_receives: l.count("queue.max_receives", 1, 1000)? as u32,
            inline_limit: l.size("queue.inline_limit", 1 << 10, 700 << 10)?,
        })
    }
}

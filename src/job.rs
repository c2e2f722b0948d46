//! Jobs and replies, as they cross the queues.
//!
//! To the runtime a job is bytes with a kind: what they mean, and what is made of them, is up to the
//! [`JobHandler`](crate::worker::JobHandler) of the workers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Identifies one job, from its submission to its stored result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u128);

impl JobId {
    /// Makes a fresh id of the time and 80 random bits, so that nobody can guess it.
    #[allow(clippy::new_without_default)] // each call differs
    pub fn new() -> Self {
        Self(Ulid::generate().0)
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ulid(self.0).fmt(f)
    }
}

impl std::str::FromStr for JobId {
    type Err = ulid::DecodeError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Ok(Self(Ulid::from_string(s)?.0))
    }
}

/// Says what is to be done with a job's payload. Each handler gives numbers to its kinds; those under 1,000 are
/// reserved for the handlers of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobKind(pub u32);

/// Says what is kept of a job when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The payload, the summary and the result stay in the store.
    Keep,
    /// Nothing stays: the reply is all there is.
    Discard,
}

/// The bytes of a job: in the message, or in the store where they are too large for one (claim check).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Payload {
    /// In the message.
    Inline(Bytes),
    /// In the store.
    Stored {
        /// Bucket of the object.
        bucket: String,
        /// Key of the object.
        key: String,
    },
}

/// One job, as it crosses the request queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Identifies the job.
    pub id: JobId,
    /// What is to be done.
    pub kind: JobKind,
    /// Name of the queue that takes the reply.
    pub reply_to: String,
    /// Name of the file that the payload came as, made safe.
    pub file: String,
    /// The bytes to work on.
    pub payload: Payload,
    /// Version of the handler's shared data that the sender has seen: a worker with an older one reads it anew first.
    pub min_version: u64,
    /// When the job was submitted, in milliseconds since the Unix epoch.
    pub submitted_ms: u64,
}

/// The reply to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Identifies the job.
    pub id: JobId,
    /// The result as the handler encoded it (JSON), or why there is none.
    pub outcome: Result<Bytes, Failure>,
    /// The instance that did the job.
    pub worker: String,
    /// Milliseconds from the worker's receive to this reply.
    pub worker_ms: f32,
}

/// Says why a job has no result; each kind has its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The payload is of a format that is not read: 415.
    Unsupported,
    /// The payload is broken: 422.
    Damaged,
    /// The payload needs more memory than is allowed: 413.
    TooLarge,
    /// A fault of this program or of its surroundings: 500.
    Internal,
}

/// Why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// What is wrong and what to do, for the person who submitted the job.
    pub message: String,
}

impl Failure {
    /// Makes a failure.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

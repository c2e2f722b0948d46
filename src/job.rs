//! Jobs and replies, as sent through the queues.
//!
//! To the runtime a job is bytes with a kind; the workers' [`JobHandler`](crate::worker::JobHandler) gives it a
//! meaning.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Identifies one job, from its submission to its stored result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u128);

impl JobId {
    /// Creates a new id from 80 random bits, so that it cannot be guessed, and then the time.
    ///
    /// The keys of a job's objects begin with its id. S3 divides a bucket by the beginnings of its keys, and each part
    /// serves a limited number of requests, so jobs of the same time must not begin alike.
    #[allow(clippy::new_without_default)] // each call differs
    pub fn new() -> Self {
        Self(Ulid::generate().0.rotate_left(Ulid::TIME_BITS.into()))
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

/// Determines what to do with a job's payload. Each handler assigns numbers to its kinds; those below 1,000 are
/// reserved for the handlers of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JobKind(pub u32);

impl JobKind {
    /// First kind of the handlers of other crates.
    const FIRST_OF_OTHERS: u32 = 1_000;

    /// Returns whether every release does with jobs of this kind what is meant. Of the kinds of this crate, the first
    /// release has 0 and 1, and takes all others for 0.
    pub(crate) fn is_understood_by_all(self) -> bool {
        !(2..Self::FIRST_OF_OTHERS).contains(&self.0)
    }
}

/// Determines what is kept of a job when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// The payload, the summary and the result stay in the store.
    Keep,
    /// Nothing is kept; there is only the reply.
    Discard,
}

/// The bytes of a job: in the message, or in the store if they are too large for a message (claim check).
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

/// One job, as sent through the request queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Identifies the job.
    pub id: JobId,
    /// What to do.
    pub kind: JobKind,
    /// Name of the reply queue.
    pub reply_to: String,
    /// Sanitised file name of the payload.
    pub file: String,
    /// The bytes to work on.
    pub payload: Payload,
    /// Name of the handler's shared data that the job uses; empty if the handler has only one, or for its default.
    pub dataset: String,
    /// Version of these data that the sender has seen. A worker with an older version reloads them first.
    pub min_version: u64,
    /// When the job was submitted, in milliseconds since the Unix epoch.
    pub submitted_ms: u64,
}

/// What a handler returns for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The result, as JSON text: goes into the reply and, if results are kept, into the store.
    pub result: Bytes,
    /// One line of text: the content of the object in the output bucket.
    pub summary: String,
}

impl Output {
    /// Creates an output from a value that is serialised as JSON.
    ///
    /// # Errors
    /// The value cannot be serialised, for example a map whose keys are not text.
    pub fn json(value: &impl Serialize, summary: impl Into<String>) -> Result<Self, Failure> {
        let result = serde_json::to_vec(value)
            .map_err(|e| Failure::new(FailureKind::Internal, format!("the result cannot be written as JSON: {e}")))?;
        Ok(Self { result: result.into(), summary: summary.into() })
    }
}

/// The reply to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Identifies the job.
    pub id: JobId,
    /// The result as the handler encoded it (JSON), or why there is none.
    pub outcome: Result<Bytes, Failure>,
    /// The instance that did the job; empty if it was given up.
    pub worker: String,
    /// Milliseconds for which a thread of the worker was busy with the job.
    pub worker_ms: f32,
}

/// The kinds of failure, each with its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The payload's format is not supported: 415.
    Unsupported,
    /// The payload is damaged: 422.
    Damaged,
    /// The payload needs more memory than is allowed: 413.
    TooLarge,
    /// A fault of this program or its environment: 500.
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
    /// Creates a failure.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

//! What a worker needs to know of its jobs: the one trait that gives them a meaning.

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::job::{Failure, FailureKind, Job, JobKind, Retention};

/// Does the jobs of a worker. One value serves all threads of the process.
#[async_trait]
pub trait JobHandler: Send + Sync + 'static {
    /// Makes what one thread does jobs with: loads models, allocates buffers, runs once to warm up. Runs on that
    /// thread, and again after a job has panicked there.
    ///
    /// # Errors
    /// The worker cannot start; says what to do.
    fn executor(&self) -> anyhow::Result<Executor>;

    /// Says what is kept of jobs of a kind. The sender must say the same ([`Submission`](crate::client::Submission)).
    fn retention(&self, _kind: JobKind) -> Retention {
        Retention::Keep
    }

    /// Makes shared data at least as new as the job wants it ([`Job::min_version`]), before the job takes a thread.
    async fn prepare(&self, _job: &Job) {}
}

/// Does one job after the other on one thread: takes a job and its payload. It may block and use the CPU. A panic
/// fails its job alone.
pub type Executor = Box<dyn FnMut(&Job, &[u8]) -> Result<Output, Failure>>;

/// What a handler made of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The result, as JSON text: goes into the reply and, where results are kept, into the store.
    pub result: Bytes,
    /// One line of text for people and scripts: the content of the object in the output bucket.
    pub summary: String,
}

impl Output {
    /// Makes an output of a value that can be written as JSON.
    ///
    /// # Errors
    /// The value cannot (a map with keys that are no text, for example).
    pub fn json(value: &impl Serialize, summary: impl Into<String>) -> Result<Self, Failure> {
        let result = serde_json::to_vec(value)
            .map_err(|e| Failure::new(FailureKind::Internal, format!("the result cannot be written as JSON: {e}")))?;
        Ok(Self { result: result.into(), summary: summary.into() })
    }
}

//! The trait by which an application processes jobs.

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

use crate::job::{Failure, FailureKind, Job, JobKind, Retention};

/// Processes the jobs of a worker. One value serves all threads of the process.
#[async_trait]
pub trait JobHandler: Send + Sync + 'static {
    /// Creates the executor of one thread: loads models, allocates buffers, and runs once to warm up. Called on that
    /// thread, and again after a job has panicked there.
    ///
    /// # Errors
    /// The worker cannot start; the message names a remedy.
    fn executor(&self) -> anyhow::Result<Executor>;

    /// Returns what is kept of jobs of a kind. It must agree with the sender's
    /// [`Submission`](crate::client::Submission).
    fn retention(&self, _kind: JobKind) -> Retention {
        Retention::Keep
    }

    /// Updates shared data to at least the version that the job requires ([`Job::min_version`]), before the job
    /// occupies a thread.
    async fn prepare(&self, _job: &Job) {}
}

/// Executes jobs on one thread, one after the other: takes a job and its payload. It may block and use the CPU. A panic
/// fails only its own job.
pub type Executor = Box<dyn FnMut(&Job, &[u8]) -> Result<Output, Failure>>;

/// A handler's output for a job.
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

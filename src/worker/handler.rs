//! The trait by which an application processes jobs.

use async_trait::async_trait;

use crate::job::{Failure, Job, JobKind, Output, Retention};

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

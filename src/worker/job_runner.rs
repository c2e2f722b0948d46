//! Processes a job from its message to its stored result.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use metrics::{counter, histogram};
use tokio::{sync::oneshot, time::Instant};

use super::{
    JobHandler,
    pool::{Pool, Task},
    reply_sender::ReplySender,
    service_time::ServiceTimeEstimator,
};
use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, Delivery, queue_limits::MAX_BODY},
    job::{Failure, FailureKind, Job, Output, Reply, Retention},
    results::ResultStore,
    telemetry::{Collector, WorkerReport},
    wire,
};

/// What a worker needs to run jobs.
pub struct Options {
    /// Handles the jobs.
    pub handler: Arc<dyn JobHandler>,
    /// Threads that the handler uses.
    pub threads: usize,
    /// Holds payloads and results.
    pub results: ResultStore,
    /// Sends the replies.
    pub replies: ReplySender,
    /// Id of this instance, which its replies contain.
    pub instance: String,
    /// What is measured in this process.
    pub collector: Collector,
}

/// Runs jobs on a pool of threads.
pub struct JobRunner {
    options: Options,
    pool: Pool<(Arc<Job>, Bytes), Output>,
    service_time: ServiceTimeEstimator,
    /// The queue that the latest reply was sent to, which gets the next report.
    latest_reply_to: Mutex<Option<String>>,
}

/// A job that has been run, but not yet replied to or persisted.
pub struct Finished {
    job: Arc<Job>,
    payload: Bytes,
    outcome: Result<Output, Failure>,
    worker_ms: f32,
    receives: u32,
}

impl Finished {
    /// Releases the payload, which nothing needs any more once the outcome is persisted.
    pub fn without_payload(self) -> Self {
        Self { payload: Bytes::new(), ..self }
    }

    /// Returns how long nobody else should get the job if it could not be persisted because of `error`.
    pub fn retry_delay(&self, error: &CloudError) -> Duration {
        if error.retryable() { doubled(RETRY_DELAY, self.receives) } else { Duration::ZERO }
    }
}

/// A job that could not be run here and now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRun {
    /// How long nobody else should get it.
    pub delay: Duration,
}

/// How long a job that this program cannot read is hidden after the first receive: an upgrade of all workers takes minutes.
const UNREADABLE_DELAY: Duration = Duration::from_secs(20);
/// How long a job is hidden after the first receive if a cloud service has failed.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// Largest result in bytes: that of a message, without what else is in a reply, which takes some hundred bytes.
const MAX_RESULT: usize = MAX_BODY - (4 << 10);
/// Longest delay.
const MAX_DELAY: Duration = Duration::from_secs(600);

/// Returns the delay after so many receives, which doubles each time.
fn doubled(first: Duration, receives: u32) -> Duration {
    first.saturating_mul(1 << receives.saturating_sub(1).min(16)).min(MAX_DELAY)
}

/// Returns an output whose result fits into a reply. Repeating a job would not make its result smaller.
fn fitting(output: Output) -> Result<Output, Failure> {
    let size = output.result.len();
    if size <= MAX_RESULT {
        return Ok(output);
    }
    tracing::error!(size, max = MAX_RESULT, "the job has failed: its result is too large for a reply");
    let why = format!("the result has {size} bytes, and a reply holds at most {MAX_RESULT}: ask for less at once");
    Err(Failure::new(FailureKind::Internal, why))
}

/// Returns the time since a job was submitted, by the clocks of two machines.
fn since(submitted_ms: u64) -> Duration {
    Duration::from_millis(now_ms().saturating_sub(submitted_ms))
}

/// Records how long a stage of a job took.
fn stage(stage: &'static str, took: Duration) {
    histogram!("rollcall_job_stage_duration_seconds", "stage" => stage).record(took.as_secs_f64());
}

/// Returns the pauses between attempts of one call, some seconds in all.
fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default().with_jitter().with_max_times(5)
}

impl JobRunner {
    /// Starts the threads and returns when the handler is ready on all of them.
    ///
    /// # Errors
    /// A thread cannot be started, or the handler cannot create an executor; its message names a remedy.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let handler = options.handler.clone();
        let factory = Arc::new(move || {
            let mut executor = handler.executor()?;
            let task: Task<(Arc<Job>, Bytes), Output> = Box::new(move |(job, payload)| executor(&job, &payload));
            Ok(task)
        });
        let pool = Pool::start(options.threads, factory).await?;
        let service_time = ServiceTimeEstimator::default();
        Ok(Self { options, pool, service_time, latest_reply_to: Mutex::default() })
    }

    /// Returns the estimator of how long a job takes on a thread.
    pub fn service_time(&self) -> &ServiceTimeEstimator {
        &self.service_time
    }

    /// Runs the job of a delivery and notifies `begun` when a thread begins it.
    ///
    /// # Errors
    /// The message is no job that this program can read, but a newer one may; or the payload cannot be read now. The
    /// message must be returned to its queue, which gives it up in the end.
    pub async fn run(&self, delivery: Delivery, begun: oneshot::Sender<()>) -> Result<Finished, NotRun> {
        let job: Arc<Job> = match wire::from_bytes(&delivery.body) {
            Ok(job) => Arc::new(job),
            Err(error) => {
                let (id, receives) = (delivery.group.as_deref(), delivery.receives);
                tracing::error!(%error, id, receives, "job returned to the queue: it cannot be decoded");
                return Err(NotRun { delay: doubled(UNREADABLE_DELAY, receives) });
            }
        };
        stage("queue", since(job.submitted_ms));
        if delivery.receives > 1 {
            counter!("rollcall_job_redeliveries_total").increment(1);
        }
        let (payload, (outcome, took)) = match self.payload(&job).await {
            Ok(payload) => match self.earlier_output(&job, delivery.receives).await {
                Some(output) => (payload, (Ok(output), Duration::ZERO)),
                None => (payload.clone(), self.execute(&job, payload, begun).await),
            },
            Err(error @ CloudError::NotFound(_)) => {
                tracing::error!(%error, id = %job.id, "payload of the job not read");
                let failure = Failure::new(FailureKind::Internal, "the stored payload could not be read");
                (Bytes::new(), (Err(failure), Duration::ZERO))
            }
            // Also a right that is missing may be there soon: a role or a key is being changed.
            Err(error) => {
                tracing::warn!(%error, id = %job.id, "job returned to the queue: its payload cannot be read now");
                return Err(NotRun { delay: doubled(RETRY_DELAY, delivery.receives) });
            }
        };
        Ok(Finished { job, payload, outcome, worker_ms: took.as_secs_f32() * 1e3, receives: delivery.receives })
    }

    /// Returns the output of a job that an earlier worker has done and not deleted from the queue: it is not done again, and
    /// not answered differently.
    async fn earlier_output(&self, job: &Job, receives: u32) -> Option<Output> {
        let is_kept = self.options.handler.retention(job.kind) == Retention::Keep;
        if receives <= 1 || !is_kept {
            return None;
        }
        self.options.results.output(job.id).await.unwrap_or_default() // it can be done again
    }

    async fn payload(&self, job: &Job) -> CloudResult<Bytes> {
        let read = || self.options.results.payload(job);
        read.retry(backoff()).when(CloudError::retryable).await
    }

    /// Runs a job on a thread. Returns its outcome, and how long the thread was busy with it.
    async fn execute(
        &self,
        job: &Arc<Job>,
        payload: Bytes,
        begun: oneshot::Sender<()>,
    ) -> (Result<Output, Failure>, Duration) {
        self.options.handler.prepare(job).await;
        let finished = self.pool.run((job.clone(), payload), Some(begun)).await;
        if finished.outcome.is_ok() {
            self.service_time.add(finished.took);
        }
        (finished.outcome.and_then(fitting), finished.took)
    }

    /// Makes persisted outcomes durable, so that their jobs can be deleted.
    ///
    /// # Errors
    /// Any error of the store; the jobs must then be retried.
    pub async fn flush(&self) -> CloudResult<()> {
        self.options.results.flush().await
    }

    /// Replies, then persists the outcome. A reply to a queue that is gone, or that may not be used, is given up.
    ///
    /// # Errors
    /// The reply was not sent or the outcome was not stored, and the job must be done again. Calls are retried for some
    /// seconds first, because the work is done and the store or the queue may be unavailable only briefly.
    pub async fn persist(&self, finished: &Finished) -> CloudResult<()> {
        let reply = || self.reply(finished);
        reply.retry(backoff()).when(CloudError::retryable).await?;
        histogram!("rollcall_job_duration_seconds").record(since(finished.job.submitted_ms).as_secs_f64());
        let replied = Instant::now();
        let store = || self.store(finished);
        store.retry(backoff()).when(CloudError::retryable).await?;
        stage("store", replied.elapsed());
        Ok(())
    }

    async fn store(&self, Finished { job, payload, outcome, .. }: &Finished) -> CloudResult<()> {
        let Options { results, handler, instance, .. } = &self.options;
        match (handler.retention(job.kind), outcome) {
            (Retention::Discard, _) => results.delete_payload(&job.payload).await,
            (Retention::Keep, Ok(output)) => results.store_output(job, payload.clone(), output, instance).await,
            (Retention::Keep, Err(failure)) => results.store_failure(job, failure, instance).await,
        }
    }

    async fn reply(&self, Finished { job, outcome, worker_ms, .. }: &Finished) -> CloudResult<()> {
        let outcome = outcome.as_ref().map(|output| output.result.clone()).map_err(Failure::clone);
        let reply = Reply { id: job.id, outcome, worker: self.options.instance.clone(), worker_ms: *worker_ms };
        self.options.replies.send(&job.reply_to, &reply).await?;
        *self.latest_reply_to.lock().unwrap_or_else(PoisonError::into_inner) = Some(job.reply_to.clone());
        Ok(())
    }

    /// Reports what was measured since the last report, if there were jobs, to the queue that the latest reply was sent
    /// to. A report that cannot be sent is lost: it must not disturb the jobs.
    pub async fn report(&self) {
        let to = self.latest_reply_to.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(to) = to.filter(|_| self.options.collector.has_values()) else { return };
        let report = WorkerReport { samples: self.options.collector.take() };
        if let Err(error) = self.options.replies.send_report(&to, &report).await {
            tracing::warn!(%error, "what this worker has measured could not be reported");
        }
    }
}

#[cfg(test)]
mod tests;

//! Processes a job from its message to its stored result.

use std::{collections::HashMap, sync::Arc};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    JobHandler,
    pool::{Pool, Task},
    service_time::ServiceTimeEstimator,
};
use crate::{
    cloud::{CloudError, CloudResult, Delivery, Message, Queue, Queues},
    job::{Failure, FailureKind, Job, Output, Reply, Retention},
    results::ResultStore,
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
    /// Opens reply queues.
    pub queues: Arc<dyn Queues>,
    /// Name, or prefix of the names, of the queues that replies may go to.
    pub reply_prefix: String,
    /// Id of this instance, which its replies contain.
    pub instance: String,
    /// Number of receives after which the queue gives up a job.
    pub max_receives: u32,
}

/// Runs jobs on a pool of threads.
pub struct JobRunner {
    options: Options,
    pool: Pool<(Arc<Job>, Bytes), Output>,
    service_time: ServiceTimeEstimator,
    /// Reply queues by name, opened once.
    replies: tokio::sync::Mutex<HashMap<String, Arc<dyn Queue>>>,
}

/// A job that has been run, but not yet replied to or persisted.
pub struct Finished {
    job: Arc<Job>,
    payload: Bytes,
    outcome: Result<Output, Failure>,
    worker_ms: f32,
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
        Ok(Self { options, pool, service_time: ServiceTimeEstimator::default(), replies: Default::default() })
    }

    /// Returns the estimator of how long a job takes on a thread.
    pub fn service_time(&self) -> &ServiceTimeEstimator {
        &self.service_time
    }

    /// Runs the job of a delivery and notifies `begun` when a thread begins it. Returns `None` if the message is not a
    /// job, so that there is no one to reply to.
    pub async fn run(&self, delivery: Delivery, begun: oneshot::Sender<()>) -> Option<Finished> {
        let received = Instant::now();
        let job: Arc<Job> = match wire::from_bytes(&delivery.body) {
            Ok(job) => Arc::new(job),
            Err(error) => {
                tracing::error!(%error, "job dropped: it cannot be decoded");
                return None;
            }
        };
        if delivery.receives >= self.options.max_receives {
            self.store_provisional_failure(&job, delivery.receives).await;
        }
        let (payload, outcome) = match self.options.results.payload(&job).await {
            Ok(payload) => (payload.clone(), self.execute(&job, payload, begun).await),
            Err(error) => {
                tracing::error!(%error, id = %job.id, "payload of the job not read");
                let failure = Failure::new(FailureKind::Internal, "the stored payload could not be read");
                (Bytes::new(), Err(failure))
            }
        };
        let worker_ms = received.elapsed().as_secs_f32() * 1e3;
        Some(Finished { job, payload, outcome, worker_ms })
    }

    async fn execute(&self, job: &Arc<Job>, payload: Bytes, begun: oneshot::Sender<()>) -> Result<Output, Failure> {
        self.options.handler.prepare(job).await;
        let finished = self.pool.run((job.clone(), payload), Some(begun)).await;
        if finished.outcome.is_ok() {
            self.service_time.add(finished.took);
        }
        finished.outcome
    }

    /// Stores a provisional failure for a job on its last receive, because the job may have killed several workers. If
    /// it kills this one too, the failure remains; if it succeeds, the result replaces it.
    async fn store_provisional_failure(&self, job: &Job, receives: u32) {
        let message = format!("{receives} workers died or gave up while they worked on this job");
        let failure = Failure::new(FailureKind::Internal, message);
        let Options { results, instance, .. } = &self.options;
        if let Err(error) = results.store_provisional_failure(job, &failure, instance).await {
            tracing::warn!(%error, id = %job.id, "provisional failure not stored");
        }
    }

    /// Makes persisted outcomes durable, so that their jobs can be deleted.
    ///
    /// # Errors
    /// Any error of the store; the jobs must then be retried.
    pub async fn flush(&self) -> CloudResult<()> {
        self.options.results.flush().await
    }

    /// Replies, then persists the outcome.
    ///
    /// # Errors
    /// The reply was not sent or the outcome was not stored, and the job must be done again. Calls are retried for some
    /// seconds first, because the work is done and the store or the queue may be unavailable only briefly.
    pub async fn persist(&self, finished: Finished) -> CloudResult<()> {
        let backoff = ExponentialBuilder::default().with_jitter().with_max_times(5);
        let reply = || self.reply(&finished);
        reply.retry(backoff).when(CloudError::retryable).await?;
        let store = || self.store(&finished);
        store.retry(backoff).when(CloudError::retryable).await
    }

    async fn store(&self, Finished { job, payload, outcome, .. }: &Finished) -> CloudResult<()> {
        let Options { results, handler, instance, .. } = &self.options;
        match (handler.retention(job.kind), outcome) {
            (Retention::Discard, _) => results.delete_payload(job).await,
            (Retention::Keep, Ok(output)) => results.store_output(job, payload.clone(), output, instance).await,
            (Retention::Keep, Err(failure)) => results.store_failure(job, failure, instance).await,
        }
    }

    async fn reply(&self, Finished { job, outcome, worker_ms, .. }: &Finished) -> CloudResult<()> {
        let queue = self.reply_queue(&job.reply_to).await?;
        let outcome = outcome.as_ref().map(|output| output.result.clone()).map_err(Failure::clone);
        let reply = Reply { id: job.id, outcome, worker: self.options.instance.clone(), worker_ms: *worker_ms };
        let body = wire::to_bytes(&reply).map_err(|e| CloudError::Invalid(e.to_string()))?;
        let sent = queue.send(vec![Message { body, ..Message::default() }]).await.pop();
        sent.unwrap_or_else(|| Err(CloudError::Unavailable("the queue returned no result".into())))
    }

    async fn reply_queue(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        let prefix = &self.options.reply_prefix;
        if !name.starts_with(prefix) {
            return Err(CloudError::Invalid(format!("reply queue {name} is not one of {prefix}")));
        }
        let mut open = self.replies.lock().await;
        if let Some(queue) = open.get(name) {
            return Ok(queue.clone());
        }
        let queue = self.options.queues.open(name).await?;
        open.insert(name.to_owned(), queue.clone());
        Ok(queue)
    }
}

#[cfg(test)]
mod tests;

//! One job on a worker, from its message to its stored result. No actor: plain futures that the supervisor spawns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::prefetch::ServiceTime;
use crate::{
    cloud::{CloudError, CloudResult, Delivery, Message, Queue, Queues},
    inference::{
        gallery_cache::GalleryCache,
        pool::{Pool, Work},
    },
    recognition::{Failure, FailureKind},
    results::ResultStore,
    wire::{self, Job, Reply, Task},
};

/// What a worker needs to do jobs.
pub struct JobRunner {
    pub pool: Pool,
    pub gallery: Arc<GalleryCache>,
    pub results: ResultStore,
    pub queues: Arc<dyn Queues>,
    /// Reply queues by name, opened once.
    pub replies: tokio::sync::Mutex<HashMap<String, Arc<dyn Queue>>>,
    /// Replies go to queues of this name or beginning with it: a job cannot send elsewhere.
    pub speaker: String,
    /// How long inference usually takes.
    pub learned: ServiceTimeEstimator,
    /// This instance, as it signs replies.
    pub instance: String,
    /// After so many receives a job is given up by the queue.
    pub max_receives: u32,
}

/// Learns how long inferences take: exponential averages of the time, in which the latest counts an eighth, and of its
/// deviation, a quarter (as of the round trip in RFC 6298).
#[derive(Debug, Default)]
pub struct ServiceTimeEstimator(Mutex<Option<(Duration, Duration)>>);

impl ServiceTimeEstimator {
    /// `None` before anything was learned.
    pub fn get(&self) -> Option<ServiceTime> {
        let (mean, deviation) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(ServiceTime { mean, upper_bound: mean + 4 * deviation })
    }

    pub fn learn(&self, took: Duration) {
        let mut learned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *learned = Some(match *learned {
            None => (took, took / 2),
            Some((mean, deviation)) => ((7 * mean + took) / 8, (3 * deviation + mean.abs_diff(took)) / 4),
        });
    }
}

/// A job that has its answer.
pub struct Finished {
    job: Job,
    image: Bytes,
    reply: Reply,
}

impl JobRunner {
    /// Does the inference of a job; `begun` is told when a thread takes it up. `None`: the message is none of ours, and
    /// there is nobody to answer.
    pub async fn recognise(&self, delivery: Delivery, begun: oneshot::Sender<()>) -> Option<Finished> {
        let received = Instant::now();
        let job: Job = match wire::from_bytes(&delivery.body) {
            Ok(job) => job,
            Err(error) => {
                tracing::error!(%error, "unreadable job dropped");
                return None;
            }
        };
        if delivery.receives >= self.max_receives {
            self.foretell_failure(&job, delivery.receives).await;
        }
        let (image, outcome) = match self.results.image(&job).await {
            Ok(image) => (image.clone(), self.infer(&job, image, begun).await),
            Err(error) => {
                tracing::error!(%error, id = %job.id, "image of the job not read");
                let failure =
                    Failure::new(FailureKind::Internal, format!("the stored image could not be read: {error}"));
                (Bytes::new(), Err(failure))
            }
        };
        let worker_ms = received.elapsed().as_secs_f32() * 1e3;
        let reply = Reply { id: job.id, outcome, worker: self.instance.clone(), worker_ms };
        Some(Finished { job, image, reply })
    }

    async fn infer(
        &self,
        job: &Job,
        image: Bytes,
        begun: oneshot::Sender<()>,
    ) -> Result<crate::recognition::Recognition, Failure> {
        let gallery = self.gallery.at_least(job.gallery_version).await;
        let outcome =
            self.pool.run(Work { image, gallery, embeddings: job.task == Task::Embed, begun: Some(begun) }).await;
        if let Ok(recognition) = &outcome {
            self.learned.learn(recognition.timings.total());
        }
        outcome
    }

    /// A job on its last receive has taken several workers with it. Should it take this one too, whoever asks for it
    /// finds this record; should it succeed, the result replaces it.
    async fn foretell_failure(&self, job: &Job, receives: u32) {
        let message = format!("{receives} workers died or gave up while they worked on this image");
        let failure = Failure::new(FailureKind::Internal, message);
        if let Err(error) = self.results.fail(job, self.instance.clone(), failure).await {
            tracing::warn!(%error, id = %job.id, "provisional failure not stored");
        }
    }

    /// Makes durable what was kept, so that the jobs can leave the queue.
    pub async fn flush(&self) -> CloudResult<()> {
        self.results.flush().await
    }

    /// Answers, then keeps image and result. An error means that the job has to be done again.
    pub async fn settle(&self, Finished { job, image, reply }: Finished) -> CloudResult<()> {
        // Retried for some seconds: the store or the queue may be away for a moment, and the work is done.
        let backoff = ExponentialBuilder::default().with_jitter().with_max_times(5);
        let answer = || self.answer(&job, &reply);
        answer.retry(backoff).when(CloudError::retryable).await?;
        if job.task == Task::Recognise {
            let keep = || self.results.finish(&job, image.clone(), &reply);
            keep.retry(backoff).when(CloudError::retryable).await
        } else {
            let drop_image = || self.results.drop_image(&job);
            drop_image.retry(backoff).when(CloudError::retryable).await
        }
    }

    async fn answer(&self, job: &Job, reply: &Reply) -> CloudResult<()> {
        let queue = self.reply_queue(&job.reply_to).await?;
        let body = wire::to_bytes(reply).map_err(|e| CloudError::Invalid(e.to_string()))?;
        let sent = queue.send(vec![Message { body, ..Message::default() }]).await.pop();
        sent.unwrap_or_else(|| Err(CloudError::Unavailable("the queue did not answer".into())))
    }

    async fn reply_queue(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        if !name.starts_with(&self.speaker) {
            return Err(CloudError::Invalid(format!("reply queue {name} is not one of {}", self.speaker)));
        }
        let mut open = self.replies.lock().await;
        if let Some(queue) = open.get(name) {
            return Ok(queue.clone());
        }
        let queue = self.queues.open(name).await?;
        open.insert(name.to_owned(), queue.clone());
        Ok(queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn what_is_usual_follows_what_happens() {
        let learned = ServiceTimeEstimator::default();
        assert_eq!(learned.get(), None);
        learned.learn(ms(8));
        assert_eq!(learned.get(), Some(ServiceTime { mean: ms(8), upper_bound: ms(24) }));
        learned.learn(ms(16));
        assert_eq!(learned.get(), Some(ServiceTime { mean: ms(9), upper_bound: ms(29) }));
        (0..100).for_each(|_| learned.learn(ms(40)));
        let steady = learned.get().expect("learned");
        assert!(steady.mean > ms(39) && steady.upper_bound < ms(41), "{steady:?}");
        learned.learn(ms(400));
        assert!(learned.get().expect("learned").upper_bound > ms(400), "times that vary are not relied on");
    }
}

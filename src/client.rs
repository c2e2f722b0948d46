//! Submits jobs and waits for their replies: the entry point of the runtime for HTTP, the command line and other
//! programs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

pub use crate::actors::web_request::SubmitError;
use crate::{
    actors::{
        actor_ref::Sender,
        instance_fleet::DemandHint,
        web_request::{Ports, Request},
    },
    clock::now_ms,
    cloud::{CloudError, Message, headroom::Headroom},
    fleet::fall_is_hinted,
    fleet_history::{Count, FleetHistory, Latency},
    job::{Job, JobId, JobKind, Payload, Reply, Retention},
    results::{ResultStore, Status, promises},
    wire,
};

/// Time after which a client that was refused may retry. A worker finishes tens of jobs per second, so there is soon
/// capacity again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Memory for payloads is counted in pages of this many bytes: a semaphore counts in 32 bits.
const PAGE: usize = 4096;

/// Limits of a client, and where its replies go.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of jobs that may wait at the same time.
    pub max_waiting: usize,
    /// Bytes of payloads that may be held at the same time.
    pub max_memory: usize,
    /// Longest wait for a reply.
    pub deadline: Duration,
    /// Size in bytes above which payloads go through the store.
    pub inline_limit: usize,
    /// Name of the reply queue.
    pub reply_to: String,
}

/// A place among the waiting jobs, released when dropped.
pub struct Admission {
    _place: OwnedSemaphorePermit,
    memory: Option<OwnedSemaphorePermit>,
    reserved: usize,
}

/// One job to submit.
pub struct Submission {
    /// Identifies the job.
    pub id: JobId,
    /// What to do.
    pub kind: JobKind,
    /// What is kept of it; must agree with the worker's handler.
    pub retention: Retention,
    /// Sanitised file name of the payload: a single path segment.
    pub file: String,
    /// The bytes to work on.
    pub payload: Bytes,
    /// Name of the handler's shared data that the job uses; empty if the handler has only one, or for its default.
    pub dataset: String,
    /// Minimum version of these data that the worker must have; 0 if there is none.
    pub min_version: u64,
}

struct Shared {
    options: Options,
    ports: Ports,
    /// The fleet, if it is in this process.
    hint: Option<Sender<DemandHint>>,
    headroom: Headroom,
    history: FleetHistory,
    /// Locked while a hint is sent, so that the last one sent is the latest.
    hints: Mutex<Hints>,
    places: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

#[derive(Default)]
struct Hints {
    /// Jobs that have been submitted and whose clients wait. An upload that is still being received is none: it may be
    /// refused, and slow senders must not start instances.
    waiting: u64,
    /// Their number in the last hint.
    told: u64,
}

/// Submits jobs and waits for their replies. Cheap to clone.
#[derive(Clone)]
pub struct JobClient(Arc<Shared>);

/// A job whose client waits. The fleet may be told when it no longer does, whatever ends the wait.
struct Waiting<'a> {
    client: &'a JobClient,
    /// Whether the job is done for the client when the wait ends.
    until_done: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let until_done = self.until_done;
        self.client.hint(|hints| {
            hints.waiting -= 1;
            until_done && fall_is_hinted(hints.told, hints.waiting)
        });
    }
}

impl JobClient {
    /// Creates a client of the actors behind `ports`. `hint` tells the fleet how many jobs wait: with each job, and
    /// when their number has halved. Nothing is accepted without `headroom`.
    /// What it submits is counted in `history`.
    pub fn new(
        options: Options,
        ports: Ports,
        hint: Option<Sender<DemandHint>>,
        headroom: Headroom,
        history: FleetHistory,
    ) -> Self {
        let places = Arc::new(Semaphore::new(options.max_waiting));
        let memory = Arc::new(Semaphore::new(options.max_memory / PAGE));
        Self(Arc::new(Shared { options, ports, hint, headroom, history, hints: Mutex::default(), places, memory }))
    }

    /// Returns the store of payloads and results.
    pub fn results(&self) -> &ResultStore {
        &self.0.ports.results
    }

    /// Returns how many jobs currently hold a place.
    pub fn waiting(&self) -> usize {
        self.0.options.max_waiting - self.0.places.available_permits()
    }

    /// Returns the age of the oldest job that is not done, zero if there is none; `None` if the queue does not tell.
    pub fn oldest_job(&self) -> Option<Duration> {
        self.0.ports.requests.oldest()
    }

    /// Returns whether more may be accepted, and the numbers behind that.
    pub fn headroom(&self) -> &Headroom {
        &self.0.headroom
    }

    /// Returns the history in which jobs are counted.
    pub fn history(&self) -> &FleetHistory {
        &self.0.history
    }

    /// Takes a place among the waiting jobs.
    ///
    /// # Errors
    /// `Full` if nothing is accepted, `Overloaded` if there is no place.
    pub fn admit(&self) -> Result<Admission, SubmitError> {
        self.try_admit().inspect_err(|_| self.0.history.count(Count::Refusal))
    }

    fn try_admit(&self) -> Result<Admission, SubmitError> {
        self.0.headroom.check()?;
        let place = self.0.places.clone().try_acquire_owned();
        let place = place.map_err(|_| SubmitError::Overloaded {
            reason: "too many uploads are waiting",
            retry_after: RETRY_AFTER,
        })?;
        Ok(Admission { _place: place, memory: None, reserved: 0 })
    }

    /// Takes `bytes` of the memory for payloads, held by the admission.
    ///
    /// # Errors
    /// `Overloaded` if not enough are left.
    pub fn reserve(&self, admission: &mut Admission, bytes: usize) -> Result<(), SubmitError> {
        admission.reserved += bytes;
        let held = admission.memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = admission.reserved.div_ceil(PAGE) - held;
        let taken = self.0.memory.clone().try_acquire_many_owned(more as u32);
        let taken = taken.map_err(|_| SubmitError::Overloaded {
            reason: "too many bytes are being uploaded",
            retry_after: RETRY_AFTER,
        })?;
        match &mut admission.memory {
            Some(memory) => memory.merge(taken),
            none => *none = Some(taken),
        }
        Ok(())
    }

    /// Submits a job and waits for its reply. `may_be_retry` means that a job with this id may have been submitted
    /// before; a stored result of it is then returned.
    ///
    /// # Errors
    /// The job was not submitted, its result has been deleted, or no reply has arrived.
    pub async fn submit(
        &self,
        admission: Admission,
        submission: Submission,
        may_be_retry: bool,
    ) -> Result<Reply, SubmitError> {
        let _place = admission;
        let (id, file, retention) = (submission.id, submission.file.clone(), submission.retention);
        let began = Instant::now();
        self.0.history.count(Count::Upload);
        let (message, stored) = self.message(submission).await?;
        let storing = if stored.is_some() { began.elapsed() } else { Duration::ZERO };
        let _waiting = self.begin_waiting(true);
        let request = Request { id, message, file, retention, deadline: self.0.options.deadline, may_be_retry };
        let reply = request.submit(self.0.ports.clone()).await;
        if let Ok(Reply { outcome: Ok(result), worker, worker_ms, .. }) = &reply
            && !worker.is_empty()
        {
            self.0.history.answered_in(Latency::new(began.elapsed(), storing, *worker_ms, result));
        }
        if let (Err(SubmitError::Deleted { .. }), Some(stored)) = (&reply, stored) {
            // The queue may have dropped the job as a duplicate of one that had found the tombstone before.
            self.results().delete_payload(&stored).await?;
        }
        reply
    }

    /// Submits a job and returns once it is durable in the queue and stored as pending.
    ///
    /// # Errors
    /// The job was not submitted.
    pub async fn submit_async(&self, admission: Admission, submission: Submission) -> Result<(), SubmitError> {
        let _place = admission;
        self.0.history.count(Count::Upload);
        let (id, file) = (submission.id, submission.file.clone());
        let (message, stored) = self.message(submission).await?;
        let _waiting = self.begin_waiting(false);
        let status = promises::accept(&*self.0.ports.requests, self.results(), message, id, file).await?;
        if status == Status::Deleted {
            if let Some(stored) = stored {
                self.results().delete_payload(&stored).await?; // as above
            }
            return Err(SubmitError::Deleted { id });
        }
        Ok(())
    }

    /// Sends a dead letter again. Returns `false` if there is none.
    ///
    /// # Errors
    /// `Full` if nothing is accepted, or any error of the queue or the store; the dead letter is then still there.
    pub async fn send_dead_letter_again(&self, id: JobId) -> Result<bool, SubmitError> {
        self.0.headroom.check()?;
        Ok(self.results().send_again(&*self.0.ports.requests, id, &self.0.options.reply_to).await?)
    }

    /// Creates the message of a job. A payload over the limit is stored first (claim check), and returned as well.
    async fn message(&self, submission: Submission) -> Result<(Message, Option<Payload>), SubmitError> {
        let Submission { id, kind, retention, file, payload, dataset, min_version } = submission;
        let payload = if payload.len() <= self.0.options.inline_limit {
            Payload::Inline(payload)
        } else {
            self.results().store_payload(id, retention, &file, payload).await?
        };
        let stored = Some(payload.clone()).filter(|payload| matches!(payload, Payload::Stored { .. }));
        let reply_to = self.0.options.reply_to.clone();
        let job = Job { id, kind, reply_to, file, payload, dataset, min_version, submitted_ms: now_ms() };
        let body = wire::to_bytes(&job).map_err(|e| CloudError::Invalid(e.to_string()))?;
        // One group per job: jobs of a shared group would be processed one at a time.
        let id = id.to_string();
        Ok((Message { body, group: Some(id.clone()), dedup: Some(id), delay: Duration::ZERO }, stored))
    }

    /// Tells the fleet of one more job that waits.
    fn begin_waiting(&self, until_done: bool) -> Waiting<'_> {
        self.hint(|hints| {
            hints.waiting += 1;
            true
        });
        Waiting { client: self, until_done }
    }

    /// Changes the number of jobs that wait, and tells it to the fleet if `change` returns `true`.
    fn hint(&self, change: impl FnOnce(&mut Hints) -> bool) {
        let mut hints = self.0.hints.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut hints) {
            hints.told = hints.waiting;
            if let Some(fleet) = &self.0.hint {
                fleet.tell(DemandHint { waiting: hints.told });
            }
        }
    }

    /// Checks that the queue and the store can be reached, by one call to each.
    ///
    /// # Errors
    /// Any error of the queue or the store.
    pub async fn ready(&self) -> Result<(), CloudError> {
        let (depth, checked) = futures_util::join!(self.0.ports.requests.depth(), self.results().check());
        depth.and(checked)
    }
}

#[cfg(test)]
mod tests;

//! What the processes of a history do, and what their clients are promised.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;

use super::{
    bugs::Bug,
    cloud::{FakeQueue, FakeStore, turn},
};
use crate::{
    cloud::{CloudError, CloudResult, Delivery, Message, ObjectStore as _, Precondition, Queue as _, Receipt},
    job::{Failure, FailureKind, Job, JobId, JobKind, Output, Payload, Retention},
    results::{JobResult, ResultStore, Status, Stored, job_result::finished, keys, promises},
    settings::Settings,
    wire,
};

const FILE: &str = "a.txt";
const PAYLOAD: &str = "the photo";

/// Ids of jobs whose results are kept.
pub const KEPT: std::ops::Range<u128> = 1..4;
/// The job of an enrolment: nothing is kept of it.
pub const ENROLMENT: JobId = JobId(4);

/// What must occur often for the histories to mean anything.
pub const OCCURRENCES: [&str; 16] = [
    "accepted",
    "promised at the deadline",
    "retry",
    "deleted",
    "deleted before it was stored",
    "refused to delete",
    "worker killed",
    "web node killed",
    "consumer killed",
    "redelivered while it ran",
    "given up",
    "sent again",
    "purged",
    "failed",
    "enrolment unanswered",
    "enrolment given up",
];

/// What clients have been told, and what happened.
#[derive(Default)]
pub struct Ledger {
    /// Jobs whose clients got 202, or 504 with an id.
    pub promised: BTreeSet<JobId>,
    /// Jobs whose clients got 204 or 404 for DELETE.
    pub deleted: BTreeSet<JobId>,
    /// Requests under way that have stored a payload. It is left if their web node is killed.
    pub with_payload: BTreeMap<JobId, usize>,
    pub occurred: BTreeMap<&'static str, u64>,
    pub log: Vec<String>,
}

impl Ledger {
    pub fn note(&mut self, what: &'static str, id: JobId) {
        *self.occurred.entry(what).or_default() += 1;
        self.log.push(format!("{}: {what}", id.0));
    }
}

/// What all processes share.
#[derive(Clone)]
pub struct Shared {
    pub settings: Settings,
    pub requests: Arc<FakeQueue>,
    pub dead: Arc<FakeQueue>,
    pub store: Arc<FakeStore>,
    pub results: ResultStore,
    pub ledger: Arc<Mutex<Ledger>>,
    /// Whether the queue is embedded: it dies with its process, and all others with it.
    pub embedded: bool,
    pub bug: Bug,
}

impl Shared {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no panic")
    }

    pub fn note(&self, what: &'static str, id: JobId) {
        self.ledger().note(what, id);
    }

    pub fn promised(&self, what: &'static str, id: JobId) {
        self.note(what, id);
        self.ledger().promised.insert(id);
    }

    pub async fn message(&self, id: JobId, large: bool) -> (Message, Payload) {
        let payload = Bytes::from_static(PAYLOAD.as_bytes());
        let payload = if large {
            *self.ledger().with_payload.entry(id).or_default() += 1;
            self.results.store_payload(id, retention(id), FILE, payload).await.expect("stored")
        } else {
            Payload::Inline(payload)
        };
        let (kind, reply_to) = (JobKind(1), "replies".to_owned());
        let job = Job {
            id,
            kind,
            reply_to,
            file: FILE.into(),
            payload: payload.clone(),
            dataset: String::new(),
            min_version: 0,
            submitted_ms: 1,
        };
        let body = wire::to_bytes(&job).expect("encoded");
        let id = Some(id.to_string());
        (Message { body, group: id.clone(), dedup: id, delay: Duration::ZERO }, payload)
    }

    pub fn ended(&self, id: JobId, large: bool) {
        if large && let Some(with_payload) = self.ledger().with_payload.get_mut(&id) {
            *with_payload -= 1;
        }
    }

    /// An upload with an `Idempotency-Key` and `Prefer: respond-async`, as `http/recognitions.rs` handles it. Every
    /// upload of a job after the first is a retry.
    pub async fn upload(&self, id: JobId, large: bool) {
        match self.results.stored(id).await.expect("read") {
            Stored::Result(_) => return self.promised("retry", id),
            Stored::Deleted(_) => return,
            Stored::Absent => {}
        }
        let (message, payload) = self.message(id, large).await;
        if self.bug == Bug::PendingBeforeSend {
            self.results.store_pending(id, FILE.into()).await.expect("stored");
        }
        let status = promises::accept(&*self.requests, &self.results, message, id, FILE.into()).await;
        if status.expect("accepted") == Status::Deleted {
            self.results.delete_payload(&payload).await.expect("deleted"); // as `client.rs` does
        } else {
            self.promised("accepted", id);
        }
        self.ended(id, large);
    }

    /// An upload with an `Idempotency-Key` whose client waits, as `actors/web_request.rs` handles it, until its deadline:
    /// the reply is lost.
    pub async fn upload_and_wait(&self, id: JobId, large: bool) {
        if !matches!(self.results.stored(id).await.expect("read"), Stored::Absent) {
            return;
        }
        let (message, payload) = self.message(id, large).await;
        self.requests.send_buffered(vec![message]).await;
        for _ in 0..4 {
            turn().await;
        }
        let mut status = self.results.stored(id).await.expect("read").status();
        if matches!(status, None | Some(Status::Pending)) {
            let stored = match self.bug {
                Bug::PendingWithoutFlush => self.results.store_pending(id, FILE.into()).await,
                _ => promises::promise_at_deadline(&*self.requests, &self.results, id, FILE.into()).await,
            };
            status = Some(stored.expect("stored"));
            if status != Some(Status::Deleted) {
                self.promised("promised at the deadline", id);
            }
        }
        if status == Some(Status::Deleted) {
            self.results.delete_payload(&payload).await.expect("deleted"); // as `client.rs` does
        }
        self.ended(id, large);
    }

    /// An enrolment, as `actors/web_request.rs` handles it until its deadline: the reply is lost, and nothing is promised.
    pub async fn enrol(&self, large: bool) {
        let (message, _) = self.message(ENROLMENT, large).await;
        self.requests.send_buffered(vec![message]).await;
        for _ in 0..4 {
            turn().await;
        }
        if self.bug == Bug::PendingEnrolment {
            self.results.store_pending(ENROLMENT, FILE.into()).await.expect("stored");
        }
        self.note("enrolment unanswered", ENROLMENT);
        self.ended(ENROLMENT, large);
    }

    pub async fn delete(&self, id: JobId) {
        let before = self.results.stored(id).await.expect("read").status();
        let deleted = match self.bug {
            Bug::NoTombstone => self.delete_without_tombstone(id).await,
            _ => self.results.delete(id).await,
        };
        match deleted {
            Ok(_) => {
                let what = if before.is_none() { "deleted before it was stored" } else { "deleted" };
                self.note(what, id);
                self.ledger().deleted.insert(id);
            }
            Err(CloudError::Conflict(_)) => self.note("refused to delete", id),
            Err(CloudError::Unavailable(_)) => {} // contended
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn delete_without_tombstone(&self, id: JobId) -> CloudResult<bool> {
        self.results.delete(id).await?;
        self.store.delete(&self.settings.store.state, &keys::result_key(id)).await?;
        Ok(true)
    }

    pub async fn send_again(&self, id: JobId) {
        if self.results.send_again(&*self.requests, id, &self.settings.queue.speaker).await.expect("sent") {
            self.note("sent again", id);
        }
    }

    pub async fn purge(&self, id: JobId) {
        if self.results.purge_dead_letter(id).await.expect("purged") {
            self.note("purged", id);
        }
    }

    /// Receives a message; `held` has its receipt until it is deleted.
    pub async fn receive(
        &self,
        queue: &FakeQueue,
        held: &Mutex<Option<Receipt>>,
    ) -> CloudResult<Option<(Job, Delivery)>> {
        let Some(delivery) = queue.receive(1, Duration::ZERO).await?.pop() else { return Ok(None) };
        *held.lock().expect("no panic") = Some(delivery.receipt.clone());
        let job: Job = wire::from_bytes(&delivery.body).expect("a job");
        Ok(Some((job, delivery)))
    }

    /// Does the next job, as `worker/job_runner.rs` and `actors/instance_supervisor.rs` do.
    pub async fn work(&self, held: Arc<Mutex<Option<Receipt>>>, fails: bool) -> CloudResult<()> {
        let Some((job, delivery)) = self.receive(&self.requests, &held).await? else { return Ok(()) };
        if self.bug == Bug::DeletedWhenReceived {
            self.requests.delete(vec![delivery.receipt.clone()]).await;
        }
        let payload = self.results.payload(&job).await;
        let earlier = if delivery.receives > 1 { self.results.output(job.id).await? } else { None };
        turn().await;
        match payload {
            _ if job.id == ENROLMENT => self.results.delete_payload(&job.payload).await?,
            Ok(payload) if earlier.is_some() || !fails => {
                let run = &delivery.receipt.0; // each would have an answer of its own
                let output = earlier.unwrap_or_else(|| Output::json(run, run).expect("JSON"));
                if self.bug == Bug::AnsweredAgain {
                    self.answer_again(&job, &output).await?;
                }
                self.results.store_output(&job, payload, &output, "i-1").await.or_else(contended)?;
            }
            _ => {
                let failure = Failure::new(FailureKind::Damaged, "cut off");
                self.results.store_failure(&job, &failure, "i-1").await.or_else(contended)?;
                self.note("failed", job.id);
            }
        }
        self.results.flush().await?;
        self.requests.delete(vec![delivery.receipt]).await;
        Ok(())
    }

    async fn answer_again(&self, job: &Job, output: &Output) -> CloudResult<()> {
        let (stored, unchanged) = self.results.stored_with_condition(job.id).await?;
        if stored.status() != Some(Status::Done) {
            return Ok(());
        }
        let again = finished(job, None, Ok(output))?;
        let put = self.store.put_buffered(vec![self.results.result_of(job.id, &again, unchanged)?]).await;
        put.or_else(|error| if matches!(error, CloudError::Conflict(_)) { Ok(()) } else { Err(error) })
    }

    /// Consumes the next dead letter, as `actors/dead_letter_consumer.rs` does.
    pub async fn consume(&self, held: Arc<Mutex<Option<Receipt>>>) -> CloudResult<()> {
        let Some((job, delivery)) = self.receive(&self.dead, &held).await? else { return Ok(()) };
        let failure = Failure::new(FailureKind::Internal, "given up");
        match self.bug {
            _ if job.id == ENROLMENT => {
                self.results.delete_payload(&job.payload).await?;
                self.note("enrolment given up", job.id);
            }
            Bug::DeadLettersAreDropped => {}
            Bug::FailureBeforeDeadLetter => {
                self.results.store_failure(&job, &failure, "").await?;
                let key = format!("{}1", keys::dead_letter_prefix(job.id));
                self.store.put(&self.settings.store.state, &key, delivery.body.clone(), Precondition::Always).await?;
            }
            _ if self.results.bury(&job, delivery.body.clone(), &failure).await? => self.note("given up", job.id),
            _ => {}
        }
        self.dead.delete(vec![delivery.receipt]).await;
        Ok(())
    }

    /// Checks at the end that every promise was kept.
    pub fn check(&self) -> Result<(), String> {
        let ledger = self.ledger();
        let all = self.store.everything();
        let object = |bucket: &str, key: String| {
            let path = format!("{bucket}/{key}");
            all.iter().find(|(place, _)| *place == path).map(|(_, bytes)| bytes)
        };
        let result = |id: JobId| {
            let found = object(&self.settings.store.state, keys::result_key(id))?;
            Some(serde_json::from_slice::<JobResult>(found).expect("a result"))
        };
        if let Some(key) = self.store.backward().first() {
            let back = "a result moved backward: back after its deletion, or taken back";
            return Err(format!("{key}: {back}"));
        }
        if let Some(key) = self.store.changed().first() {
            return Err(format!("{key}: the job was answered twice, and differently"));
        }
        if let Some(JobResult { status, .. }) = result(ENROLMENT) {
            return Err(format!("an enrolment has a result ({status:?}): it is pending for ever"));
        }
        let of_enrolment = |path: &str| path.contains(&ENROLMENT.to_string());
        if self.embedded
            && let Some((path, _)) = all.iter().find(|(path, _)| of_enrolment(path))
        {
            return Err(format!("{path} is left of an enrolment"));
        }
        for id in KEPT.map(JobId) {
            let stored = result(id);
            let status = stored.as_ref().map(|result| result.status);
            // Of workers that did a job while others did it too, one may have been killed before it stored its result.
            let zombies = ledger.occurred.contains_key("redelivered while it ran");
            let together = zombies || self.requests.sent_twice().contains(&id);
            let label = object(&self.settings.store.output, keys::output_key(&self.settings.store, id, FILE));
            let answer = stored.and_then(JobResult::into_output);
            if answer.is_some_and(|answer| label.is_none_or(|label| *label != answer.summary)) && !together {
                return Err(format!("the summary of job {} is not that of its result", id.0));
            }
            if status == Some(Status::Pending) {
                return Err(format!("job {} is pending for ever", id.0));
            }
            if ledger.promised.contains(&id) && status.is_none() {
                return Err(format!("job {} was promised and nothing is stored", id.0));
            }
            if !ledger.deleted.contains(&id) {
                continue;
            }
            if status != Some(Status::Deleted) {
                return Err(format!("job {} is back after its deletion: {status:?}", id.0));
            }
            let text = id.to_string();
            // A remote queue cannot be listed, so orphans are not swept: those of web nodes that were killed, and of such
            // workers.
            let zombies = !self.embedded && zombies;
            let with_payload = !self.embedded && ledger.with_payload.get(&id).is_some_and(|n| *n > 0);
            let payload = format!("{}/", self.settings.store.input);
            let is_excused = |path: &str| zombies || (with_payload && path.starts_with(&payload));
            let is_object = |path: &str| path.contains(&text) && !path.ends_with(&keys::result_key(id));
            let left = all.iter().find(|(path, _)| is_object(path) && !is_excused(path));
            if let Some((path, _)) = left {
                return Err(format!("{path} is left after its deletion"));
            }
        }
        Ok(())
    }
}

/// Returns what is kept of a job.
fn retention(id: JobId) -> Retention {
    if id == ENROLMENT { Retention::Discard } else { Retention::Keep }
}

/// Ends a job whose result many others change at the same time; a worker would return it to the queue.
fn contended(error: CloudError) -> CloudResult<()> {
    if matches!(error, CloudError::Unavailable(_)) { Ok(()) } else { Err(error) }
}

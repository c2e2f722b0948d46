//! Dead letters: jobs that the queue has given up, because they were received too often and never finished.
//!
//! They are kept in the state bucket, one object for each time that a job is given up, until they are sent again or
//! purged. The object is the job's message. The dead-letter queue is only the way there: a queue cannot be listed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use ulid::Ulid;
use utoipa::ToSchema;

use super::{
    ResultStore,
    job_result::{JobResult, Status, Stored, finished},
    keys,
    transitions::Step,
};
use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, Message, Precondition, Queue},
    job::{Failure, Job, JobId, Payload},
    wire,
};

/// A job that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The job's id.
    pub id: String,
    /// Sanitised file name of its payload.
    pub file: String,
    /// When it was last given up, in milliseconds since the Unix epoch.
    pub given_up_ms: u64,
    /// Why.
    pub reason: String,
}

impl DeadLetter {
    fn of(failed: JobResult, given_up_ms: u64) -> Self {
        let reason = failed.failure.map_or_else(String::new, |failure| failure.message);
        Self { id: failed.id, file: failed.file, given_up_ms, reason }
    }
}

/// A job that was given up, with what is known of its message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterDetails {
    /// As in the list.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// Each time it was given up since it was last sent again, the first coming first, in milliseconds since the Unix epoch.
    pub times_ms: Vec<u64>,
    /// Size of the newest message in bytes.
    pub message_bytes: u64,
    /// When the job was submitted, in milliseconds since the Unix epoch; null if this release cannot read the message,
    /// which a newer one may have sent.
    pub submitted_ms: Option<u64>,
    /// Where its payload is stored, if not in the message.
    pub payload_key: Option<String>,
}

impl ResultStore {
    /// Keeps a job that the queue has given up, and stores its failure. Both are durable on return. Does nothing if the
    /// job was done, and only its message was left; keeps nothing if its result has been deleted. May be repeated; each
    /// call keeps a copy of its own. Returns whether the job is a dead letter.
    ///
    /// # Errors
    /// Any error of the store; the message must then stay in the dead-letter queue.
    pub async fn bury(&self, job: &Job, message: Bytes, failure: &Failure) -> CloudResult<bool> {
        let stored = self.stored_with_condition(job.id).await?;
        let stays = match stored.0.status() {
            Some(Status::Done) => Some(stored),
            _ => self.keep(job.id, message, &finished(job, None, Err(failure))?).await?,
        };
        let Some(stays) = stays else { return Ok(true) };
        self.conform(job, stays).await?;
        self.flush().await?;
        Ok(false)
    }

    /// Keeps a job that the queue has given up and that this program cannot read, as [`Self::bury`] does. If its result was
    /// never promised, only its failure is stored: it may be of a kind of which nothing is kept.
    ///
    /// # Errors
    /// Any error of the store; the message must then stay in the dead-letter queue.
    pub async fn bury_unreadable(&self, id: JobId, message: Bytes, failure: &Failure) -> CloudResult<bool> {
        let ended = |file: String, submitted_ms| JobResult {
            file,
            submitted_ms,
            failure: Some(failure.clone()),
            finished_ms: Some(now_ms()),
            ..JobResult::without_output(id, Status::Failed)
        };
        match self.stored(id).await? {
            Stored::Result(result) if result.status == Status::Done => Ok(false),
            Stored::Result(result) => {
                let stays = self.keep(id, message, &ended(result.file, result.submitted_ms)).await?;
                Ok(stays.is_none())
            }
            Stored::Absent => {
                self.advance(id, Step::Fail, Vec::new(), &ended(String::new(), now_ms())).await?;
                self.flush().await?;
                Ok(false)
            }
            Stored::Deleted(_) => Ok(false),
        }
    }

    /// Stores a dead letter and the failed result of its job, or returns what is stored of the job and stays, with
    /// the condition that it has not changed since.
    async fn keep(&self, id: JobId, message: Bytes, result: &JobResult) -> CloudResult<Option<(Stored, Precondition)>> {
        // Before the failure, so that a concurrent deletion sees the dead letter, or its tombstone is seen below.
        let key = format!("{}{}", keys::dead_letter_prefix(id), Ulid::generate());
        self.store.put(&self.buckets.state, &key, message, Precondition::Always).await?;
        let stays = self.advance(id, Step::Fail, Vec::new(), result).await?;
        self.flush().await?;
        if stays.is_some() {
            self.delete_dead_letters(id).await?; // also one of an earlier call that died
        }
        Ok(stays)
    }

    /// Returns the dead letters, the one that was given up first coming first. Those of jobs that have been done since are purged instead.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn dead_letters(&self) -> CloudResult<Vec<DeadLetter>> {
        let mut latest = BTreeMap::new();
        for object in self.store.list(&self.buckets.state, keys::DEAD_LETTERS).await? {
            if let Some((id, burial)) = parse(&object.key) {
                latest.insert(id, burial); // the list is ordered by key
            }
        }
        let mut found = Vec::with_capacity(latest.len());
        for (id, burial) in latest {
            match self.stored(id).await? {
                Stored::Result(result) if result.status == Status::Failed => {
                    found.push(DeadLetter::of(*result, burial.timestamp_ms()));
                }
                Stored::Result(result) if result.status != Status::Done => {} // it is being buried
                Stored::Absent => {}
                Stored::Result(_) | Stored::Deleted(_) => self.delete_dead_letters(id).await?,
            }
        }
        found.sort_by_key(|letter| letter.given_up_ms);
        Ok(found)
    }

    /// Returns one dead letter with what is known of its message; `None` if there is none.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn dead_letter(&self, id: JobId) -> CloudResult<Option<DeadLetterDetails>> {
        let keys = self.dead_letter_keys(id).await?;
        let burials = keys.iter().filter_map(|key| Some(parse(key)?.1.timestamp_ms()));
        let times_ms: Vec<u64> = burials.collect();
        let Stored::Result(result) = self.stored(id).await? else { return Ok(None) };
        let (Some(key), Some(given_up_ms), Status::Failed) = (keys.last(), times_ms.last(), result.status) else {
            return Ok(None);
        };
        let message = match self.store.get(&self.buckets.state, key).await {
            Ok(object) => object.bytes,
            Err(CloudError::NotFound(_)) => return Ok(None), // it has just been purged
            Err(error) => return Err(error),
        };
        let job = wire::from_bytes::<Job>(&message).ok();
        let payload = job.as_ref().map(|job| job.payload.clone());
        Ok(Some(DeadLetterDetails {
            letter: DeadLetter::of(*result, *given_up_ms),
            message_bytes: message.len() as u64,
            submitted_ms: job.map(|job| job.submitted_ms),
            payload_key: match payload {
                Some(Payload::Stored { bucket, key }) => Some(format!("{bucket}/{key}")),
                Some(Payload::Inline(_)) | None => None,
            },
            times_ms,
        }))
    }

    /// Returns the number of jobs that have dead letters. It is found from a list of keys, whose price does not grow with each of
    /// them, so a job that has been done since counts until [`Self::dead_letters`] purges it.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn count_dead_letters(&self) -> CloudResult<usize> {
        let objects = self.store.list(&self.buckets.state, keys::DEAD_LETTERS).await?;
        let jobs: BTreeSet<JobId> = objects.iter().filter_map(|object| Some(parse(&object.key)?.0)).collect();
        Ok(jobs.len())
    }

    /// Sends a dead letter again, as a new message. Its result stays failed unless the job is done. Returns `false` if
    /// there is none. The reply will go to the queue `reply_to`, because the node that submitted the job may be gone; only
    /// that of a job that this program cannot read goes where it would have gone.
    ///
    /// # Errors
    /// Any error of the store or the queue; the dead letter is then still there.
    pub async fn send_again(&self, requests: &dyn Queue, id: JobId, reply_to: &str) -> CloudResult<bool> {
        let keys = self.dead_letter_keys(id).await?;
        let Some(newest) = keys.last() else { return Ok(false) };
        let body = match self.store.get(&self.buckets.state, newest).await {
            Ok(object) => object.bytes,
            Err(CloudError::NotFound(_)) => return Ok(false), // it has just been purged
            Err(error) => return Err(error),
        };
        let body = match wire::from_bytes::<Job>(&body) {
            Ok(job) => wire::to_bytes(&Job { reply_to: reply_to.to_owned(), ..job })
                .map_err(|e| CloudError::Invalid(e.to_string()))?,
            Err(_) => body, // for workers of a newer release
        };
        // The queue may still drop the job's own id as a duplicate; a repetition of this call is one.
        let dedup = newest.rsplit('/').next().map(str::to_owned);
        let message = Message { body, group: Some(id.to_string()), dedup, ..Message::default() };
        requests.send_one(message).await?;
        // Only those that were found: the job may have been given up again in the meantime.
        self.delete_keys(&keys).await?;
        Ok(true)
    }

    /// Purges a dead letter: deletes it and the failed result, as [`Self::delete`] does. A job that was done in the
    /// meantime keeps its result. Returns `false` if there is none.
    ///
    /// # Errors
    /// Any error of the store; the purge must then be repeated.
    pub async fn purge_dead_letter(&self, id: JobId) -> CloudResult<bool> {
        if self.dead_letter_keys(id).await?.is_empty() {
            return Ok(false);
        }
        self.delete_if(id, |status| status == Some(Status::Failed)).await?;
        self.delete_dead_letters(id).await?;
        Ok(true)
    }

    /// Deletes the dead letters of a job, and nothing else.
    pub(super) async fn delete_dead_letters(&self, id: JobId) -> CloudResult<()> {
        self.delete_keys(&self.dead_letter_keys(id).await?).await
    }

    /// Returns the keys of a job's dead letters, the oldest first.
    pub(super) async fn dead_letter_keys(&self, id: JobId) -> CloudResult<Vec<String>> {
        let objects = self.store.list(&self.buckets.state, &keys::dead_letter_prefix(id)).await?;
        Ok(objects.into_iter().map(|object| object.key).collect())
    }

    async fn delete_keys(&self, keys: &[String]) -> CloudResult<()> {
        for key in keys {
            self.store.delete(&self.buckets.state, key).await?;
        }
        Ok(())
    }
}

/// Returns the job of a dead letter's key, and the id of its burial, which contains the time.
fn parse(key: &str) -> Option<(JobId, Ulid)> {
    let (id, burial) = key.strip_prefix(keys::DEAD_LETTERS)?.split_once('/')?;
    Some((id.parse().ok()?, burial.parse().ok()?))
}

#[cfg(test)]
mod tests;

//! What is kept of each job: the payload in the input bucket, the summary in the output bucket, and the full result
//! under the job's id in the state bucket, where every node finds it, even after a restart.

mod dead_letters;
mod erase;
mod expiry;
pub mod expiry_clock;
mod job_result;
pub mod keys;
mod lost;
pub mod promises;
pub mod suspects;
mod sweep;
mod transitions;

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, ETag, NewObject, ObjectStore, Precondition, QUEUE_RETENTION},
    job::{Failure, Job, JobId, Output, Payload, Retention},
    settings,
};

pub use dead_letters::{DeadLetter, DeadLetterDetails};
pub use erase::{Erased, Selection};
pub use job_result::{JobResult, Status, Stored};
pub use sweep::Orphan;

use job_result::finished;
use transitions::{Change, Step, change};

/// How often a conditional put is tried. Few write the result of one job, so conflicts end soon.
const MAX_CONFLICTS: usize = 10;
/// How long SQS keeps a message at most, in milliseconds: 14 days.
const LONGEST_RETENTION_MS: u64 = QUEUE_RETENTION.as_millis() as u64;

/// Stores, finds and deletes the results of jobs. Cheap to clone.
#[derive(Clone)]
pub struct ResultStore {
    store: Arc<dyn ObjectStore>,
    buckets: settings::Store,
}

impl ResultStore {
    /// Creates a result store on `store`, with the names in `buckets`.
    pub fn new(store: Arc<dyn ObjectStore>, buckets: settings::Store) -> Self {
        Self { store, buckets }
    }

    /// Returns the stored result of a job, if there is one. An object that is not a result counts as none: the job can
    /// then be submitted again under its id, and its result replaces the object.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn get(&self, id: JobId) -> CloudResult<Option<JobResult>> {
        Ok(match self.stored(id).await? {
            Stored::Result(result) => Some(*result),
            Stored::Absent | Stored::Deleted(_) => None,
        })
    }

    /// Returns what is stored of a job, as [`Self::get`] does, but distinguishes a deleted result from none.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn stored(&self, id: JobId) -> CloudResult<Stored> {
        Ok(self.stored_with_condition(id).await?.0)
    }

    /// Returns what is stored of a job, and the condition that it has not changed since.
    async fn stored_with_condition(&self, id: JobId) -> CloudResult<(Stored, Precondition)> {
        let object = match self.store.get(&self.buckets.state, &keys::result_key(id)).await {
            Ok(object) => object,
            Err(CloudError::NotFound(_)) => return Ok((Stored::Absent, Precondition::Absent)),
            Err(error) => return Err(error),
        };
        let stored = match serde_json::from_slice::<Box<JobResult>>(&object.bytes) {
            Ok(result) if result.status == Status::Deleted => {
                Stored::Deleted(Some(result.file).filter(|file| !file.is_empty()))
            }
            Ok(result) => Stored::Result(result),
            Err(error) => {
                tracing::error!(%error, %id, "the stored result is corrupt");
                Stored::Absent
            }
        };
        Ok((stored, Precondition::Match(object.etag)))
    }

    /// Stores a pending result for a job that was accepted, unless it already has a stored result. Returns the status
    /// that is stored then.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn store_pending(&self, id: JobId, file: String) -> CloudResult<Status> {
        let result = JobResult { file, submitted_ms: now_ms(), ..JobResult::without_output(id, Status::Pending) };
        let stored = self.advance(id, Step::Promise, Vec::new(), &result).await?;
        self.flush().await?;
        Ok(stored.and_then(|(stored, _)| stored.status()).unwrap_or(Status::Pending))
    }

    /// Stores a payload that is too large for a message: under its final key if it is kept, otherwise under a temporary
    /// one.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn store_payload(
        &self,
        id: JobId,
        retention: Retention,
        file: &str,
        payload: Bytes,
    ) -> CloudResult<Payload> {
        let (bucket, key) = match retention {
            Retention::Keep => (&self.buckets.input, keys::input_key(&self.buckets, id, file)),
            Retention::Discard => (&self.buckets.state, keys::claim_key(id)),
        };
        self.store.put(bucket, &key, payload, Precondition::Always).await?;
        Ok(Payload::Stored { bucket: bucket.clone(), key })
    }

    /// Reads the payload of a job.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn payload(&self, job: &Job) -> CloudResult<Bytes> {
        match &job.payload {
            Payload::Inline(bytes) => Ok(bytes.clone()),
            Payload::Stored { bucket, key } => Ok(self.store.get(bucket, key).await?.bytes),
        }
    }

    /// Deletes a payload from the store, if it was not part of the message.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn delete_payload(&self, payload: &Payload) -> CloudResult<()> {
        match payload {
            Payload::Inline(_) => Ok(()),
            Payload::Stored { bucket, key } => self.store.delete(bucket, key).await,
        }
    }

    /// Stores a job's payload, its summary and then its result, so that the result never exists without the others.
    /// Durable after [`Self::flush`]. Stores nothing if the result has been deleted. If an earlier run of the job is done,
    /// its answer stands, because somebody may have read it.
    ///
    /// # Errors
    /// Any error of the store; the job must then be retried.
    pub async fn store_output(&self, job: &Job, payload: Bytes, output: &Output, worker: &str) -> CloudResult<()> {
        let mut objects = Vec::with_capacity(3);
        if let Payload::Inline(_) = job.payload {
            let key = keys::input_key(&self.buckets, job.id, &job.file);
            objects.push(NewObject {
                bucket: self.buckets.input.clone(),
                key,
                bytes: payload,
                when: Precondition::Always,
            });
        }
        objects.push(self.summary_of(job, output.summary.clone()));
        let result = finished(job, Some(worker), Ok(output))?;
        match self.advance(job.id, Step::Complete, objects, &result).await? {
            None => Ok(()),
            Some(stays) => self.conform(job, stays).await,
        }
    }

    /// Returns the output of a job that is done, with its summary, if both are stored.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn output(&self, id: JobId) -> CloudResult<Option<Output>> {
        Ok(self.get(id).await?.and_then(JobResult::into_output))
    }

    fn summary_of(&self, job: &Job, summary: String) -> NewObject {
        let (bucket, key) = (self.buckets.output.clone(), keys::output_key(&self.buckets, job.id, &job.file));
        NewObject { bucket, key, bytes: summary.into(), when: Precondition::Always }
    }

    fn result_of(&self, id: JobId, result: &JobResult, when: Precondition) -> CloudResult<NewObject> {
        let (bucket, key) = (self.buckets.state.clone(), keys::result_key(id));
        Ok(NewObject { bucket, key, bytes: to_json(result)?, when })
    }

    /// Stores the failure of a job, unless it was done in an earlier run or its result has been deleted, and deletes its
    /// payload, unless it belongs to an earlier result. Durable after [`Self::flush`].
    ///
    /// # Errors
    /// Any error of the store; the job must then be retried.
    pub async fn store_failure(&self, job: &Job, failure: &Failure, worker: &str) -> CloudResult<()> {
        let result = finished(job, Some(worker), Err(failure))?;
        match self.advance(job.id, Step::Fail, Vec::new(), &result).await? {
            None => self.delete_payload(&job.payload).await,
            Some(stays) => self.conform(job, stays).await,
        }
    }

    /// Makes the other objects of a job fit what is stored of it and stays: a run that ended differently, or was killed
    /// before its end, may have put its own.
    async fn conform(&self, job: &Job, stays: (Stored, Precondition)) -> CloudResult<()> {
        let (mut stored, mut unchanged) = stays;
        for _ in 0..MAX_CONFLICTS {
            let Stored::Result(result) = stored else { return self.delete_objects(job).await };
            let Some(summary) = result.summary.clone() else { return Ok(()) };
            // With the result itself, so that a concurrent deletion is seen.
            let objects = vec![self.summary_of(job, summary), self.result_of(job.id, &result, unchanged)?];
            match self.store.put_buffered(objects).await {
                Err(CloudError::Conflict(_)) => {}
                put => return put,
            }
            (stored, unchanged) = self.stored_with_condition(job.id).await?;
        }
        Err(contended(job.id))
    }

    /// Puts `objects`, and then `result` if `step` allows it. If not, returns what is stored and stays, with the condition
    /// that it has not changed since.
    ///
    /// The result has the tombstone's key, and its put fails if the tombstone exists. So either the deletion comes
    /// later, and finds the other objects, or the caller learns of it here.
    async fn advance(
        &self,
        id: JobId,
        step: Step,
        objects: Vec<NewObject>,
        result: &JobResult,
    ) -> CloudResult<Option<(Stored, Precondition)>> {
        let mut batch = objects;
        batch.push(self.result_of(id, result, Precondition::Absent)?);
        for _ in 0..MAX_CONFLICTS {
            match self.store.put_buffered(batch).await {
                Err(CloudError::Conflict(_)) => {}
                put => return put.map(|()| None),
            }
            let (stored, when) = self.stored_with_condition(id).await?;
            match change(stored.status(), step) {
                Change::To(_) => batch = vec![self.result_of(id, result, when)?],
                Change::Keep | Change::Refuse => return Ok(Some((stored, when))),
            }
        }
        Err(contended(id))
    }

    /// Makes all buffered writes durable. Jobs are deleted from the queue only afterwards.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn flush(&self) -> CloudResult<()> {
        self.store.flush().await
    }

    /// Replaces the result of a job with a tombstone, which is durable on return, and deletes its payload, its summary
    /// and its dead letter. If there is no result yet, the job may be under way: it then stores nothing, even if it is done again.
    /// Returns `false` if the result was deleted before.
    ///
    /// # Errors
    /// `Conflict` while the job is pending, at most for the 14 days that a queue keeps it. Any error of the store; the
    /// deletion must then be retried.
    pub async fn delete(&self, id: JobId) -> CloudResult<bool> {
        self.delete_if(id, |_| true).await
    }

    /// Does what [`Self::delete`] does if `condition` holds for the status at the time; returns `false` if not.
    async fn delete_if(&self, id: JobId, condition: impl Fn(Option<Status>) -> bool) -> CloudResult<bool> {
        for _ in 0..MAX_CONFLICTS {
            let (stored, when) = self.stored_with_condition(id).await?;
            if !condition(stored.status()) {
                return Ok(false);
            }
            let expired = matches!(&stored, Stored::Result(result) if is_expired(result, now_ms()));
            if change(stored.status(), Step::Delete) == Change::Refuse && !expired {
                return Err(CloudError::Conflict(format!("job {id} is pending; delete it when it is done")));
            }
            let file = match stored {
                Stored::Deleted(None) => return Ok(false),
                Stored::Deleted(file) => file, // the deletion was interrupted
                Stored::Absent => None,
                Stored::Result(result) => Some(result.file),
            };
            let tombstone = match self.put_tombstone(id, file.clone().unwrap_or_default(), when).await {
                Err(CloudError::Conflict(_)) => continue, // it has just been stored
                put => put?,
            };
            if let Some(file) = file {
                self.delete_payload_and_summary(id, &file).await?;
                self.delete_dead_letters(id).await?;
                match self.put_tombstone(id, String::new(), Precondition::Match(tombstone)).await {
                    Ok(_) | Err(CloudError::Conflict(_)) => {} // another call has completed the deletion
                    Err(error) => return Err(error),
                }
            }
            return Ok(true);
        }
        Err(contended(id))
    }

    /// Puts a tombstone, with the name of the `file` that is still to be deleted.
    async fn put_tombstone(&self, id: JobId, file: String, when: Precondition) -> CloudResult<ETag> {
        let tombstone = to_json(&JobResult { file, ..JobResult::without_output(id, Status::Deleted) })?;
        self.store.put(&self.buckets.state, &keys::result_key(id), tombstone, when).await
    }

    /// Deletes all objects of a job whose result has been deleted, including those of an earlier run that died.
    async fn delete_objects(&self, job: &Job) -> CloudResult<()> {
        self.delete_payload(&job.payload).await?;
        self.delete_payload_and_summary(job.id, &job.file).await
    }

    async fn delete_payload_and_summary(&self, id: JobId, file: &str) -> CloudResult<()> {
        self.store.delete(&self.buckets.input, &keys::input_key(&self.buckets, id, file)).await?;
        self.store.delete(&self.buckets.output, &keys::output_key(&self.buckets, id, file)).await
    }

    /// Checks that the store responds, by a single call.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn check(&self) -> CloudResult<()> {
        self.store.check(&self.buckets.state).await
    }
}

/// Returns whether a result has been pending for so long that no queue holds its job any more.
fn is_expired(result: &JobResult, now_ms: u64) -> bool {
    now_ms.saturating_sub(result.submitted_ms) > LONGEST_RETENTION_MS
}

fn contended(id: JobId) -> CloudError {
    CloudError::Unavailable(format!("the result of job {id} is being changed by others"))
}

fn to_json(result: &JobResult) -> CloudResult<Bytes> {
    serde_json::to_vec(result).map(Bytes::from).map_err(|e| CloudError::Invalid(e.to_string()))
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod tests;

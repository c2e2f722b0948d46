//! What is kept of each job: the payload in the input bucket, the summary in the output bucket, and the full result
//! under the job's id in the state bucket, where every node finds it, even after a restart.

pub mod keys;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, ETag, NewObject, ObjectStore, Precondition},
    job::{Failure, Job, JobId, Output, Payload, Reply, Retention},
    settings,
};

/// How often a conditional put is tried. Few write the result of one job, so conflicts end soon.
const MAX_CONFLICTS: usize = 10;

/// The stored result of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's id.
    pub id: String,
    /// Sanitised file name of the payload.
    pub file: String,
    /// The status of the job.
    pub status: Status,
    /// The handler's output: JSON. Serialised as `recognition` for compatibility with existing
    /// results.
    #[serde(rename = "recognition")]
    pub output: Option<Box<RawValue>>,
    /// Why there is no output.
    pub failure: Option<Failure>,
    /// The instance that ran the job.
    pub worker: Option<String>,
    /// When the job was submitted, in milliseconds since the Unix epoch.
    pub submitted_ms: u64,
    /// When the job was done, in milliseconds since the Unix epoch.
    pub finished_ms: Option<u64>,
}

/// The status of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Accepted and not done yet.
    Pending,
    /// Done, with an output.
    Done,
    /// Done, without an output.
    Failed,
    /// Deleted by a client: a tombstone. Nothing of the job is stored any more, even if it is done again.
    Deleted,
}

/// What is stored of a job under its id.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// The tombstone of a deleted result, with the file name if its other objects may not all be deleted yet.
    Deleted(Option<String>),
    /// The result.
    Result(Box<JobResult>),
}

impl JobResult {
    /// Returns the result as the reply to job `id`; `None` if the job is not finished.
    pub fn reply(self, id: JobId) -> Option<Reply> {
        let outcome = match (self.output, self.failure) {
            (Some(output), _) => Ok(Bytes::from(String::from(Box::<str>::from(output)))),
            (None, Some(failure)) => Err(failure),
            (None, None) => return None,
        };
        Some(Reply { id, outcome, worker: self.worker.unwrap_or_default(), worker_ms: 0.0 })
    }

    fn without_output(id: JobId, status: Status) -> Self {
        Self {
            id: id.to_string(),
            file: String::new(),
            status,
            output: None,
            failure: None,
            worker: None,
            submitted_ms: 0,
            finished_ms: None,
        }
    }
}

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

    /// Stores a pending result for a job that was accepted, unless it already has a stored result.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn store_pending(&self, id: JobId, file: String) -> CloudResult<()> {
        let result = JobResult { file, submitted_ms: now_ms(), ..JobResult::without_output(id, Status::Pending) };
        let (key, json) = (keys::result_key(id), to_json(&result)?);
        match self.store.put(&self.buckets.state, &key, json, Precondition::Absent).await {
            Ok(_) | Err(CloudError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
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

    /// Deletes the payload of a job from the store, if it was not part of the message.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn delete_payload(&self, job: &Job) -> CloudResult<()> {
        match &job.payload {
            Payload::Inline(_) => Ok(()),
            Payload::Stored { bucket, key } => self.store.delete(bucket, key).await,
        }
    }

    /// Stores a job's payload, its summary and then its result, so that the result never exists without the others.
    /// Durable after [`Self::flush`]. Stores nothing if the result has been deleted.
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
        let (key, summary) = (keys::output_key(&self.buckets, job.id, &job.file), output.summary.clone());
        let (bucket, bytes) = (self.buckets.output.clone(), summary.into());
        objects.push(NewObject { bucket, key, bytes, when: Precondition::Always });
        let result = self.finished(job, worker, Ok(&output.result))?;
        if !self.put_unless_deleted(job.id, objects, result).await? {
            self.delete_payload_and_summary(job.id, &job.file).await?;
        }
        Ok(())
    }

    /// Puts `objects` and then `result`, unless the result has been deleted. Returns whether `result` was put.
    ///
    /// The result has the tombstone's key, and its put fails if the tombstone exists. So either the deletion comes
    /// later, and finds the other objects, or the caller learns of it here.
    async fn put_unless_deleted(&self, id: JobId, objects: Vec<NewObject>, result: NewObject) -> CloudResult<bool> {
        let mut batch = objects;
        batch.push(result.clone());
        for _ in 0..MAX_CONFLICTS {
            match self.store.put_buffered(batch).await {
                Err(CloudError::Conflict(_)) => {}
                put => return put.map(|()| true),
            }
            // Pending, provisional, or the result of an earlier run.
            let (stored, when) = self.stored_with_condition(id).await?;
            if let Stored::Deleted(_) = stored {
                return Ok(false);
            }
            batch = vec![NewObject { when, ..result.clone() }];
        }
        Err(contended(id))
    }

    /// Stores the failure of a job, unless its result has been deleted, and deletes its payload. Durable after
    /// [`Self::flush`].
    ///
    /// # Errors
    /// Any error of the store; the job must then be retried.
    pub async fn store_failure(&self, job: &Job, failure: &Failure, worker: &str) -> CloudResult<()> {
        self.delete_payload(job).await?;
        self.put_unless_deleted(job.id, Vec::new(), self.finished(job, worker, Err(failure))?).await.map(drop)
    }

    /// Stores a failure before the last attempt at a job, in case that attempt kills this process. The actual result
    /// overwrites it.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn store_provisional_failure(&self, job: &Job, failure: &Failure, worker: &str) -> CloudResult<()> {
        self.put_unless_deleted(job.id, Vec::new(), self.finished(job, worker, Err(failure))?).await.map(drop)
    }

    fn finished(&self, job: &Job, worker: &str, outcome: Result<&Bytes, &Failure>) -> CloudResult<NewObject> {
        let output = outcome.ok().map(|json| serde_json::from_slice::<Box<RawValue>>(json)).transpose();
        let output =
            output.map_err(|e| CloudError::Invalid(format!("the result of job {} is not JSON: {e}", job.id)))?;
        let result = JobResult {
            id: job.id.to_string(),
            file: job.file.clone(),
            status: if output.is_some() { Status::Done } else { Status::Failed },
            output,
            failure: outcome.err().cloned(),
            worker: Some(worker.to_owned()),
            submitted_ms: job.submitted_ms,
            finished_ms: Some(now_ms()),
        };
        let (bucket, key) = (self.buckets.state.clone(), keys::result_key(job.id));
        Ok(NewObject { bucket, key, bytes: to_json(&result)?, when: Precondition::Absent })
    }

    /// Makes all buffered writes durable. Jobs are deleted from the queue only afterwards.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn flush(&self) -> CloudResult<()> {
        self.store.flush().await
    }

    /// Replaces the result of a job with a tombstone, which is durable on return, and deletes its payload and its
    /// summary. If there is no result yet, the job may be under way: it then stores nothing, even if it is done again.
    /// Returns `false` if the result was deleted before.
    ///
    /// # Errors
    /// `Conflict` while the job is pending. Any error of the store; the deletion must then be retried.
    pub async fn delete(&self, id: JobId) -> CloudResult<bool> {
        for _ in 0..MAX_CONFLICTS {
            let (stored, when) = self.stored_with_condition(id).await?;
            let file = match stored {
                Stored::Deleted(None) => return Ok(false),
                Stored::Deleted(file) => file,
                Stored::Absent => None,
                Stored::Result(result) if result.status == Status::Pending => {
                    return Err(CloudError::Conflict(format!("job {id} is pending; delete it when it is done")));
                }
                Stored::Result(result) => Some(result.file),
            };
            let tombstone = match self.put_tombstone(id, file.clone().unwrap_or_default(), when).await {
                Err(CloudError::Conflict(_)) => continue, // it has just been stored
                put => put?,
            };
            if let Some(file) = file {
                self.delete_payload_and_summary(id, &file).await?;
                self.put_tombstone(id, String::new(), Precondition::Match(tombstone)).await?;
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

    async fn delete_payload_and_summary(&self, id: JobId, file: &str) -> CloudResult<()> {
        self.store.delete(&self.buckets.input, &keys::input_key(&self.buckets, id, file)).await?;
        self.store.delete(&self.buckets.output, &keys::output_key(&self.buckets, id, file)).await
    }

    /// Checks that the store responds.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn check(&self) -> CloudResult<()> {
        self.store.list(&self.buckets.state, "gallery/").await.map(drop)
    }
}

fn contended(id: JobId) -> CloudError {
    CloudError::Unavailable(format!("the result of job {id} is being changed by others"))
}

fn to_json(result: &JobResult) -> CloudResult<Bytes> {
    serde_json::to_vec(result).map(Bytes::from).map_err(|e| CloudError::Invalid(e.to_string()))
}

#[cfg(test)]
mod tests;

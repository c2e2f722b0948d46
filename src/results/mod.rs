//! What is kept of each job: the payload in the input bucket, the summary in the output bucket, and the full result
//! under the job's id in the state bucket, where every node finds it, even after a restart.

pub mod keys;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, NewObject, ObjectStore, Precondition},
    job::{Failure, Job, JobId, Output, Payload, Reply, Retention},
    settings,
};

/// The stored result of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's id.
    pub id: String,
    /// Sanitised file name of the payload.
    pub file: String,
    /// The status of the job.
    pub status: Status,
    /// The handler's output: JSON. The serialised name is that of the first stored results.
    #[serde(rename = "recognition")]
    pub output: Option<Box<RawValue>>,
    /// Why there is no output.
    pub failure: Option<Failure>,
    /// The instance that did the job.
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
    /// The store's.
    pub async fn get(&self, id: JobId) -> CloudResult<Option<JobResult>> {
        match self.store.get(&self.buckets.state, &keys::result_key(id)).await {
            Ok(object) => Ok(serde_json::from_slice(&object.bytes)
                .inspect_err(|error| tracing::error!(%error, %id, "the stored result is damaged"))
                .ok()),
            Err(CloudError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the stored result of a finished job as a reply; `None` if the job is not finished.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn reply(&self, id: JobId) -> CloudResult<Option<Reply>> {
        let Some(result) = self.get(id).await? else { return Ok(None) };
        let outcome = match (result.output, result.failure) {
            (Some(output), _) => Ok(Bytes::from(String::from(Box::<str>::from(output)))),
            (None, Some(failure)) => Err(failure),
            (None, None) => return Ok(None),
        };
        Ok(Some(Reply { id, outcome, worker: result.worker.unwrap_or_default(), worker_ms: 0.0 }))
    }

    /// Stores a pending result for a job that was accepted, unless a result of it is already stored.
    ///
    /// # Errors
    /// The store's.
    pub async fn store_pending(&self, id: JobId, file: String) -> CloudResult<()> {
        let result = JobResult {
            id: id.to_string(),
            file,
            status: Status::Pending,
            output: None,
            failure: None,
            worker: None,
            submitted_ms: now_ms(),
            finished_ms: None,
        };
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
    /// The store's.
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
    /// The store's.
    pub async fn payload(&self, job: &Job) -> CloudResult<Bytes> {
        match &job.payload {
            Payload::Inline(bytes) => Ok(bytes.clone()),
            Payload::Stored { bucket, key } => Ok(self.store.get(bucket, key).await?.bytes),
        }
    }

    /// Deletes the payload of a job from the store, if it was not part of the message.
    ///
    /// # Errors
    /// The store's.
    pub async fn delete_payload(&self, job: &Job) -> CloudResult<()> {
        match &job.payload {
            Payload::Inline(_) => Ok(()),
            Payload::Stored { bucket, key } => self.store.delete(bucket, key).await,
        }
    }

    /// Stores a job's payload, its summary and then its result, so that the result never exists without the others.
    /// Durable after [`Self::flush`].
    ///
    /// # Errors
    /// The store's; the job must then be done again.
    pub async fn store_output(&self, job: &Job, payload: Bytes, output: &Output, worker: &str) -> CloudResult<()> {
        let mut objects = Vec::with_capacity(3);
        if let Payload::Inline(_) = job.payload {
            let key = keys::input_key(&self.buckets, job.id, &job.file);
            objects.push(NewObject { bucket: self.buckets.input.clone(), key, bytes: payload });
        }
        let (key, summary) = (keys::output_key(&self.buckets, job.id, &job.file), output.summary.clone());
        objects.push(NewObject { bucket: self.buckets.output.clone(), key, bytes: summary.into() });
        objects.push(self.finished(job, worker, Ok(&output.result))?);
        self.store.put_buffered(objects).await
    }

    /// Stores the failure of a job, and deletes its payload. Durable after [`Self::flush`].
    ///
    /// # Errors
    /// The store's; the job must then be done again.
    pub async fn store_failure(&self, job: &Job, failure: &Failure, worker: &str) -> CloudResult<()> {
        self.delete_payload(job).await?;
        self.store.put_buffered(vec![self.finished(job, worker, Err(failure))?]).await
    }

    /// Stores a failure before the last attempt at a job, which may kill this process. A result replaces it.
    ///
    /// # Errors
    /// The store's.
    pub async fn store_provisional_failure(&self, job: &Job, failure: &Failure, worker: &str) -> CloudResult<()> {
        self.store.put_buffered(vec![self.finished(job, worker, Err(failure))?]).await
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
        Ok(NewObject { bucket, key, bytes: to_json(&result)? })
    }

    /// Makes durable everything that has been stored so far. Jobs leave the queue only after that.
    ///
    /// # Errors
    /// The store's.
    pub async fn flush(&self) -> CloudResult<()> {
        self.store.flush().await
    }

    /// Deletes the payload, the summary and the result of a finished job. Returns `false` if there is no result.
    ///
    /// # Errors
    /// `Conflict` while the job is pending, because the worker would store them again; the store's.
    pub async fn delete(&self, id: JobId) -> CloudResult<bool> {
        let Some(result) = self.get(id).await? else { return Ok(false) };
        if result.status == Status::Pending {
            return Err(CloudError::Conflict(format!("job {id} is pending; delete it when it is done")));
        }
        self.store.delete(&self.buckets.input, &keys::input_key(&self.buckets, id, &result.file)).await?;
        self.store.delete(&self.buckets.output, &keys::output_key(&self.buckets, id, &result.file)).await?;
        self.store.delete(&self.buckets.state, &keys::result_key(id)).await?;
        Ok(true)
    }

    /// Checks that the store answers.
    ///
    /// # Errors
    /// The store's.
    pub async fn check(&self) -> CloudResult<()> {
        self.store.list(&self.buckets.state, "gallery/").await.map(drop)
    }
}

fn to_json(result: &JobResult) -> CloudResult<Bytes> {
    serde_json::to_vec(result).map(Bytes::from).map_err(|e| CloudError::Invalid(e.to_string()))
}

#[cfg(test)]
mod tests;

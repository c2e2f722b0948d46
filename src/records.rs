//! What is kept of jobs: the image in the input bucket, the label in the output bucket, the full result under its id in
//! the state bucket, where every node finds it, after any restart.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::{
    cloud::{CloudError, CloudResult, ObjectStore, Precondition},
    keys,
    recognition::{Failure, Record, Status},
    settings,
    wire::{ImageRef, Job, JobId, Reply, Task},
};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

fn to_json(record: &Record) -> CloudResult<Bytes> {
    serde_json::to_vec(record).map(Bytes::from).map_err(|e| CloudError::Invalid(e.to_string()))
}

/// See the module.
#[derive(Clone)]
pub struct Records {
    store: Arc<dyn ObjectStore>,
    buckets: settings::Store,
}

impl Records {
    pub fn new(store: Arc<dyn ObjectStore>, buckets: settings::Store) -> Self {
        Self { store, buckets }
    }

    /// What is known of a job.
    pub async fn get(&self, id: JobId) -> CloudResult<Option<Record>> {
        match self.store.get(&self.buckets.state, &keys::record_key(id)).await {
            Ok(object) => serde_json::from_slice(&object.bytes)
                .map(Some)
                .map_err(|e| CloudError::Invalid(format!("record {id}: {e}"))),
            Err(CloudError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The stored result of a finished job, as the reply it was.
    pub async fn reply(&self, id: JobId) -> CloudResult<Option<Reply>> {
        let Some(record) = self.get(id).await? else { return Ok(None) };
        let outcome = match (record.recognition, record.failure) {
            (Some(recognition), _) => Ok(recognition),
            (None, Some(failure)) => Err(failure),
            (None, None) => return Ok(None),
        };
        Ok(Some(Reply { id, outcome, worker: record.worker.unwrap_or_default(), worker_ms: 0.0 }))
    }

    /// Notes that a job was accepted, unless something is noted of it already.
    pub async fn pending(&self, id: JobId, file: String) -> CloudResult<()> {
        let record = Record {
            id: id.to_string(),
            file,
            status: Status::Pending,
            recognition: None,
            failure: None,
            worker: None,
            submitted_ms: now_ms(),
            finished_ms: None,
        };
        let (key, json) = (keys::record_key(id), to_json(&record)?);
        match self.store.put(&self.buckets.state, &key, json, Precondition::Absent).await {
            Ok(_) | Err(CloudError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts an image that is too large for a message where the worker finds it: a photo to recognise where it will stay,
    /// a photo to learn from where nothing stays.
    pub async fn put_claim(&self, id: JobId, task: Task, file: &str, image: Bytes) -> CloudResult<ImageRef> {
        let (bucket, key) = match task {
            Task::Recognise => (&self.buckets.input, keys::input_key(&self.buckets, id, file)),
            Task::Embed => (&self.buckets.state, keys::claim_key(id)),
        };
        self.store.put(bucket, &key, image, Precondition::Always).await?;
        Ok(ImageRef::Stored { bucket: bucket.clone(), key })
    }

    /// The bytes of a job's image.
    pub async fn image(&self, job: &Job) -> CloudResult<Bytes> {
        match &job.image {
            ImageRef::Inline(bytes) => Ok(bytes.clone().into()),
            ImageRef::Stored { bucket, key } => Ok(self.store.get(bucket, key).await?.bytes),
        }
    }

    /// Leaves of the image what shall stay: a recognised one in the input bucket, any other nowhere. Durable after
    /// [`Self::flush`].
    pub async fn settle_image(&self, job: &Job, image: Bytes, keep: bool) -> CloudResult<()> {
        match &job.image {
            ImageRef::Inline(_) if keep => {
                let key = keys::input_key(&self.buckets, job.id, &job.file);
                self.store.put_soon(&self.buckets.input, &key, image).await
            }
            ImageRef::Stored { bucket, key } if !keep => self.store.delete(bucket, key).await,
            ImageRef::Inline(_) | ImageRef::Stored { .. } => Ok(()),
        }
    }

    /// Keeps the outcome of a job: its label, if it has one, and its record. Durable after [`Self::flush`].
    pub async fn finish(&self, job: &Job, reply: &Reply) -> CloudResult<()> {
        let (recognition, failure) = match &reply.outcome {
            Ok(recognition) => (Some(recognition.clone()), None),
            Err(failure) => (None, Some(failure.clone())),
        };
        if let Some(recognition) = &recognition {
            let key = keys::output_key(&self.buckets, job.id, &job.file);
            let label = Bytes::from(recognition.label.clone());
            self.store.put_soon(&self.buckets.output, &key, label).await?;
        }
        self.outcome(job, reply.worker.clone(), recognition, failure).await
    }

    /// Notes that the job failed, before a last attempt that may take this process with it.
    pub async fn fail(&self, job: &Job, worker: String, failure: Failure) -> CloudResult<()> {
        self.outcome(job, worker, None, Some(failure)).await
    }

    async fn outcome(
        &self,
        job: &Job,
        worker: String,
        recognition: Option<crate::recognition::Recognition>,
        failure: Option<Failure>,
    ) -> CloudResult<()> {
        let record = Record {
            id: job.id.to_string(),
            file: job.file.clone(),
            status: if recognition.is_some() { Status::Done } else { Status::Failed },
            recognition,
            failure,
            worker: Some(worker),
            submitted_ms: job.submitted_ms,
            finished_ms: Some(now_ms()),
        };
        self.store.put_soon(&self.buckets.state, &keys::record_key(job.id), to_json(&record)?).await
    }

    /// Makes durable what was kept so far: before its job leaves the queue.
    pub async fn flush(&self) -> CloudResult<()> {
        self.store.flush().await
    }

    /// Deletes image, label and record of a finished job. `false` if there is none; `Conflict` while it is pending,
    /// because the worker would write them again.
    pub async fn forget(&self, id: JobId) -> CloudResult<bool> {
        let Some(record) = self.get(id).await? else { return Ok(false) };
        if record.status == Status::Pending {
            return Err(CloudError::Conflict(format!("{id} is still being worked on; delete it when it is done")));
        }
        self.store.delete(&self.buckets.input, &keys::input_key(&self.buckets, id, &record.file)).await?;
        self.store.delete(&self.buckets.output, &keys::output_key(&self.buckets, id, &record.file)).await?;
        self.store.delete(&self.buckets.state, &keys::record_key(id)).await?;
        Ok(true)
    }

    /// Whether the store answers.
    pub async fn check(&self) -> CloudResult<()> {
        self.store.list(&self.buckets.state, "gallery/").await.map(drop)
    }
}

//! What is kept of jobs: the image in the input bucket, the label in the output bucket, the full result under its id in
//! the state bucket, where every node finds it, after any restart.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult, NewObject, ObjectStore, Precondition},
    keys,
    recognition::{Failure, JobResult, Recognition, Status},
    settings,
    wire::{ImageRef, Job, JobId, Reply, Task},
};

fn to_json(record: &JobResult) -> CloudResult<Bytes> {
    serde_json::to_vec(record).map(Bytes::from).map_err(|e| CloudError::Invalid(e.to_string()))
}

/// See the module.
#[derive(Clone)]
pub struct ResultStore {
    store: Arc<dyn ObjectStore>,
    buckets: settings::Store,
}

impl ResultStore {
    pub fn new(store: Arc<dyn ObjectStore>, buckets: settings::Store) -> Self {
        Self { store, buckets }
    }

    /// What is known of a job.
    pub async fn get(&self, id: JobId) -> CloudResult<Option<JobResult>> {
        match self.store.get(&self.buckets.state, &keys::result_key(id)).await {
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
        let record = JobResult {
            id: id.to_string(),
            file,
            status: Status::Pending,
            recognition: None,
            failure: None,
            worker: None,
            submitted_ms: now_ms(),
            finished_ms: None,
        };
        let (key, json) = (keys::result_key(id), to_json(&record)?);
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
            ImageRef::Inline(bytes) => Ok(bytes.clone()),
            ImageRef::Stored { bucket, key } => Ok(self.store.get(bucket, key).await?.bytes),
        }
    }

    /// Removes an image that nobody will want any more from where it waited for its job.
    pub async fn drop_image(&self, job: &Job) -> CloudResult<()> {
        match &job.image {
            ImageRef::Inline(_) => Ok(()),
            ImageRef::Stored { bucket, key } => self.store.delete(bucket, key).await,
        }
    }

    /// Keeps of a job its image and label, if it was recognised, and then its record: whoever finds the record finds the
    /// others. Durable after [`Self::flush`].
    pub async fn finish(&self, job: &Job, image: Bytes, reply: &Reply) -> CloudResult<()> {
        let worker = reply.worker.clone();
        let recognition = match &reply.outcome {
            Ok(recognition) => recognition,
            Err(failure) => {
                self.drop_image(job).await?;
                return self.store.put_buffered(vec![self.outcome(job, worker, None, Some(failure.clone()))?]).await;
            }
        };
        let mut objects = Vec::with_capacity(3);
        if let ImageRef::Inline(_) = job.image {
            let key = keys::input_key(&self.buckets, job.id, &job.file);
            objects.push(NewObject { bucket: self.buckets.input.clone(), key, bytes: image });
        }
        let (key, label) = (keys::output_key(&self.buckets, job.id, &job.file), recognition.label.clone());
        objects.push(NewObject { bucket: self.buckets.output.clone(), key, bytes: label.into() });
        objects.push(self.outcome(job, worker, Some(recognition.clone()), None)?);
        self.store.put_buffered(objects).await
    }

    /// Notes that the job failed, before a last attempt that may take this process with it.
    pub async fn fail(&self, job: &Job, worker: String, failure: Failure) -> CloudResult<()> {
        self.store.put_buffered(vec![self.outcome(job, worker, None, Some(failure))?]).await
    }

    /// The record of a finished job.
    fn outcome(
        &self,
        job: &Job,
        worker: String,
        recognition: Option<Recognition>,
        failure: Option<Failure>,
    ) -> CloudResult<NewObject> {
        let record = JobResult {
            id: job.id.to_string(),
            file: job.file.clone(),
            status: if recognition.is_some() { Status::Done } else { Status::Failed },
            recognition,
            failure,
            worker: Some(worker),
            submitted_ms: job.submitted_ms,
            finished_ms: Some(now_ms()),
        };
        let (bucket, key) = (self.buckets.state.clone(), keys::result_key(job.id));
        Ok(NewObject { bucket, key, bytes: to_json(&record)? })
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
        self.store.delete(&self.buckets.state, &keys::result_key(id)).await?;
        Ok(true)
    }

    /// Whether the store answers.
    pub async fn check(&self) -> CloudResult<()> {
        self.store.list(&self.buckets.state, "gallery/").await.map(drop)
    }
}

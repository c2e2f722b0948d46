//! What HTTP asks of the actors: admit an upload, get its answer, look one up. Cheap to clone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Addr};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    guardian::Link,
    messages::DemandHint,
    web_request::{HangUp, Ports, WebRequest},
};
use crate::{
    clock::now_ms,
    cloud::{CloudError, Message},
    fleet::view::FleetView,
    inference::gallery_store::GalleryStore,
    recognition::JobResult,
    results::ResultStore,
    settings::Settings,
    wire::{self, ImageRef, Job, JobId, Reply, Task},
};

/// When to come back after a refusal. A worker finishes tens of images a second, so room comes soon.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Upload memory is counted in pages of this many bytes: a semaphore counts in 32 bits.
const PAGE: usize = 4096;

/// A place among the waiting uploads, given back when dropped.
pub struct Admission {
    _place: OwnedSemaphorePermit,
    memory: Option<OwnedSemaphorePermit>,
    reserved: usize,
}

/// One image to send through the queue.
pub struct Upload {
    pub id: JobId,
    pub task: Task,
    /// File name, already made safe.
    pub file: String,
    pub image: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// 503 with `Retry-After`.
    #[error("busy: {what}; try again in {} s", retry_after.as_secs())]
    Overloaded { what: &'static str, retry_after: Duration },
    /// 503: queue or store did not take the job.
    #[error("the job could not be stored: {0}")]
    NotAccepted(#[from] CloudError),
    /// 504: the job goes on; its result will be found under the id.
    #[error("no answer within {} s; ask for the result by its id {id}", waited.as_secs())]
    Deadline { id: JobId, waited: Duration },
    /// 503: this server is going down.
    #[error("this server is shutting down; the job {id} goes on")]
    Closed { id: JobId },
}

struct Shared {
    settings: Settings,
    ports: Ports,
    gallery: GalleryStore,
    gallery_version: AtomicU64,
    places: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    hint: Link<DemandHint>,
    fleet: watch::Receiver<Arc<FleetView>>,
}

/// See the module.
#[derive(Clone)]
pub struct WebTier(Arc<Shared>);

/// Tells the request that its client has gone, when the client's future is dropped.
struct OnDrop(Addr<WebRequest>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.do_send(HangUp);
    }
}

impl WebTier {
    pub fn new(
        settings: Settings,
        ports: Ports,
        gallery: GalleryStore,
        hint: Link<DemandHint>,
        fleet: watch::Receiver<Arc<FleetView>>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(settings.http.max_waiting));
        let memory = Arc::new(Semaphore::new(settings.http.max_upload_memory / PAGE));
        Self(Arc::new(Shared {
            settings,
            ports,
            gallery,
            gallery_version: AtomicU64::new(0),
            places,
            memory,
            hint,
            fleet,
        }))
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn results(&self) -> &ResultStore {
        &self.0.ports.results
    }

    /// Uploads that hold a place now.
    pub fn waiting(&self) -> usize {
        self.0.settings.http.max_waiting - self.0.places.available_permits()
    }

    /// Takes a place among `http.max_waiting`, or is refused.
    pub fn admit(&self) -> Result<Admission, SubmitError> {
        let place = self.0.places.clone().try_acquire_owned();
        let place = place
            .map_err(|_| SubmitError::Overloaded { what: "too many uploads are waiting", retry_after: RETRY_AFTER })?;
        Ok(Admission { _place: place, memory: None, reserved: 0 })
    }

    /// Takes `bytes` of the memory for uploads (`http.max_upload_memory`), or is refused. Held by the admission.
    pub fn reserve(&self, admission: &mut Admission, bytes: usize) -> Result<(), SubmitError> {
        admission.reserved += bytes;
        let held = admission.memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = admission.reserved.div_ceil(PAGE) - held;
        let taken = self.0.memory.clone().try_acquire_many_owned(more as u32);
        let taken = taken.map_err(|_| SubmitError::Overloaded {
            what: "too many bytes are being uploaded",
            retry_after: RETRY_AFTER,
        })?;
        match &mut admission.memory {
            Some(memory) => memory.merge(taken),
            none => *none = Some(taken),
        }
        Ok(())
    }

    /// Sends the job and waits for its reply, at most `http.deadline`. `retried`: the id came from the client
    /// (Idempotency-Key), so a stored result may exist already and is answered.
    pub async fn submit(&self, admission: Admission, upload: Upload, retried: bool) -> Result<Reply, SubmitError> {
        let _place = admission;
        let (id, file) = (upload.id, upload.file.clone());
        let message = self.message(upload).await?;
        let (answer, answered) = oneshot::channel();
        let request = WebRequest {
            id,
            message: Some(message),
            file,
            deadline: self.0.settings.http.deadline,
            retried,
            ports: self.0.ports.clone(),
            answer: Some(answer),
        };
        let _hang_up = OnDrop(request.start());
        self.hint();
        answered.await.unwrap_or(Err(SubmitError::Closed { id }))
    }

    /// Sends the job and returns when it is safely queued.
    pub async fn submit_async(&self, admission: Admission, upload: Upload) -> Result<(), SubmitError> {
        let _place = admission;
        self.results().pending(upload.id, upload.file.clone()).await?;
        let message = self.message(upload).await?;
        self.hint();
        let result = self.0.ports.listener.send(vec![message]).await.pop();
        result.unwrap_or_else(|| Err(CloudError::Unavailable("the queue did not answer".into())))?;
        Ok(())
    }

    /// The job as a message. An image over `queue.inline_limit` goes to the store first (claim check).
    async fn message(&self, upload: Upload) -> Result<Message, SubmitError> {
        let Upload { id, task, file, image } = upload;
        let queue = &self.0.settings.queue;
        let image = if image.len() <= queue.inline_limit {
            ImageRef::Inline(image)
        } else {
            self.results().put_claim(id, task, &file, image).await?
        };
        let job = Job {
            id,
            task,
            reply_to: queue.speaker.clone(),
            file,
            image,
            gallery_version: self.0.gallery_version.load(Ordering::Relaxed),
            submitted_ms: now_ms(),
        };
        let body = wire::to_bytes(&job).map_err(|e| CloudError::Invalid(e.to_string()))?;
        // One group a job: a shared group would be worked on by one worker at a time.
        let id = id.to_string();
        Ok(Message { body, group: Some(id.clone()), dedup: Some(id), delay: Duration::ZERO })
    }

    fn hint(&self) {
        self.0.hint.tell(DemandHint { waiting: self.waiting() as u64 });
    }

    /// What is known of a job, by any node, after any restart.
    pub async fn record(&self, id: JobId) -> Result<Option<JobResult>, CloudError> {
        self.results().get(id).await
    }

    /// Deletes a job's image, label and result. `false` if there was none, `Conflict` while it is pending.
    pub async fn forget(&self, id: JobId) -> Result<bool, CloudError> {
        self.results().forget(id).await
    }

    pub fn gallery(&self) -> &GalleryStore {
        &self.0.gallery
    }

    /// Jobs sent from now on ask for at least this version.
    pub fn saw_gallery(&self, version: u64) {
        self.0.gallery_version.fetch_max(version, Ordering::Relaxed);
    }

    /// The fleet, as it changes.
    pub fn fleet(&self) -> watch::Receiver<Arc<FleetView>> {
        self.0.fleet.clone()
    }

    /// Why this node cannot take work, if it cannot (queue or store unreachable): `/readyz`.
    pub async fn ready(&self) -> Result<(), CloudError> {
        self.0.ports.listener.depth().await?;
        self.results().check().await
    }
}

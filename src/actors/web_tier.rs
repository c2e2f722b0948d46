//! What HTTP asks of the actors: admit an upload, get its answer, look one up. Cheap to clone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use super::fleet::view::FleetView;
use crate::{
    cloud::CloudError,
    inference::gallery_store::GalleryStore,
    recognition::Record,
    settings::Settings,
    wire::{JobId, Reply, Task},
};

/// A place among the waiting uploads, given back when dropped.
pub struct Admission {}

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

#[derive(Clone)]
pub struct WebTier {}

impl WebTier {
    pub fn settings(&self) -> &Settings {
        todo!()
    }

    /// Takes a place among `http.max_waiting`, or is refused.
    pub fn admit(&self) -> Result<Admission, SubmitError> {
        todo!()
    }

    /// Takes `bytes` of the memory for uploads (`http.max_upload_memory`), or is refused. Held by the admission.
    pub fn reserve(&self, _admission: &mut Admission, _bytes: usize) -> Result<(), SubmitError> {
        todo!()
    }

    /// Sends the job and waits for its reply, at most `http.deadline`. `retried`: the id came from the client
    /// (Idempotency-Key), so a stored result may exist already and is answered.
    pub async fn submit(&self, _admission: Admission, _upload: Upload, _retried: bool) -> Result<Reply, SubmitError> {
        todo!()
    }

    /// Sends the job and returns when it is safely queued.
    pub async fn submit_async(&self, _admission: Admission, _upload: Upload) -> Result<(), SubmitError> {
        todo!()
    }

    /// What is known of a job, by any node, after any restart.
    pub async fn record(&self, _id: JobId) -> Result<Option<Record>, CloudError> {
        todo!()
    }

    /// Deletes a job's image, label and result. `false` if there was none.
    pub async fn forget(&self, _id: JobId) -> Result<bool, CloudError> {
        todo!()
    }

    pub fn gallery(&self) -> &GalleryStore {
        todo!()
    }

    /// Jobs sent from now on ask for at least this version.
    pub fn saw_gallery(&self, _version: u64) {
        todo!()
    }

    /// The fleet, as it changes.
    pub fn fleet(&self) -> watch::Receiver<Arc<FleetView>> {
        todo!()
    }

    /// Why this node cannot take work, if it cannot (queue or store unreachable): `/readyz`.
    pub async fn ready(&self) -> Result<(), CloudError> {
        todo!()
    }
}

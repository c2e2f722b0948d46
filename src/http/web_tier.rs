//! Gives the handlers access to the workers, the gallery and the fleet. Cheap to clone.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    client::{Admission, JobClient, Submission, SubmitError},
    cloud::CloudError,
    fleet::view::FleetView,
    inference::{gallery_store::GalleryStore, handler::retention},
    job::{JobId, JobKind, Reply},
    results::{DeadLetter, JobResult, Stored},
    settings::Settings,
};

struct Shared {
    settings: Settings,
    client: JobClient,
    gallery: GalleryStore,
    gallery_version: AtomicU64,
    fleet: watch::Receiver<Arc<FleetView>>,
}

/// Gives the handlers access to the workers, the gallery and the fleet. Cheap to clone.
#[derive(Clone)]
pub struct WebTier(Arc<Shared>);

/// One image to recognise or to embed.
pub struct Upload {
    /// Identifies the job.
    pub id: JobId,
    /// What to do with the image.
    pub kind: JobKind,
    /// File name, made safe.
    pub file: String,
    /// The image as it was uploaded.
    pub image: Bytes,
}

impl WebTier {
    /// Creates the web tier of a node, which submits uploads through `client`.
    pub fn new(
        settings: Settings,
        client: JobClient,
        gallery: GalleryStore,
        fleet: watch::Receiver<Arc<FleetView>>,
    ) -> Self {
        Self(Arc::new(Shared { settings, client, gallery, gallery_version: AtomicU64::new(0), fleet }))
    }

    /// Returns the settings of the node.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns how many uploads hold a place now.
    pub fn waiting(&self) -> usize {
        self.0.client.waiting()
    }

    /// Takes a place among `http.max_waiting`.
    pub fn admit(&self) -> Result<Admission, SubmitError> {
        self.0.client.admit()
    }

    /// Takes `bytes` of `http.max_upload_memory`, held by the admission.
    pub fn reserve(&self, admission: &mut Admission, bytes: usize) -> Result<(), SubmitError> {
        self.0.client.reserve(admission, bytes)
    }

    /// Submits an upload and waits for the reply, at most `http.deadline`. `may_be_retry`: the id came from the client
    /// (Idempotency-Key), so a stored result may already exist; it is then returned.
    pub async fn submit(&self, admission: Admission, upload: Upload, may_be_retry: bool) -> Result<Reply, SubmitError> {
        self.0.client.submit(admission, self.submission(upload), may_be_retry).await
    }

    /// Submits an upload and returns when its job is durable in the queue.
    pub async fn submit_async(&self, admission: Admission, upload: Upload) -> Result<(), SubmitError> {
        self.0.client.submit_async(admission, self.submission(upload)).await
    }

    fn submission(&self, Upload { id, kind, file, image }: Upload) -> Submission {
        let min_version = self.0.gallery_version.load(Ordering::Relaxed);
        Submission { id, kind, retention: retention(kind), file, payload: image, min_version }
    }

    /// Returns what is kept of a job, whichever node accepted it.
    pub async fn result(&self, id: JobId) -> Result<Option<JobResult>, CloudError> {
        self.0.client.results().get(id).await
    }

    /// Returns what is kept of a job, and distinguishes a deleted result from none.
    pub async fn stored(&self, id: JobId) -> Result<Stored, CloudError> {
        self.0.client.results().stored(id).await
    }

    /// Deletes a job's image, label and result. Returns `false` if they were deleted before; `Conflict` while it is
    /// pending.
    pub async fn delete_result(&self, id: JobId) -> Result<bool, CloudError> {
        self.0.client.results().delete(id).await
    }

    /// Returns the dead letters, the oldest job first.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, CloudError> {
        self.0.client.results().dead_letters().await
    }

    /// Sends a dead letter again. Returns `false` if there is none.
    pub async fn send_dead_letter_again(&self, id: JobId) -> Result<bool, CloudError> {
        self.0.client.send_dead_letter_again(id).await
    }

    /// Purges a dead letter. Returns `false` if there is none.
    pub async fn purge_dead_letter(&self, id: JobId) -> Result<bool, CloudError> {
        self.0.client.results().purge_dead_letter(id).await
    }

    /// Returns the gallery.
    pub fn gallery(&self) -> &GalleryStore {
        &self.0.gallery
    }

    /// Makes jobs that are submitted from now on require at least this version of the gallery.
    pub fn saw_gallery(&self, version: u64) {
        self.0.gallery_version.fetch_max(version, Ordering::Relaxed);
    }

    /// Returns a receiver that follows the view of the fleet.
    pub fn fleet(&self) -> watch::Receiver<Arc<FleetView>> {
        self.0.fleet.clone()
    }

    /// Checks that queue and store can be reached: `/readyz`.
    pub async fn ready(&self) -> Result<(), CloudError> {
        self.0.client.ready().await
    }
}

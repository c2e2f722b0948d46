//! Gives the handlers access to the workers, the gallery and the fleet. Cheap to clone.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use super::{
    rate_limits::RateLimits,
    readiness::Readiness,
    receiving::{Receivers, Receiving},
};
use crate::{
    client::{Admission, JobClient, Submission, SubmitError},
    cloud::{CloudError, headroom::Headroom},
    erasure::{Erasure, Erasures},
    fleet::view::FleetView,
    fleet_history::FleetHistory,
    inference::{
        gallery::{
            GalleryStores, Spellings,
            store::{GalleryError, GalleryStore},
        },
        handler::{dataset, retention},
    },
    job::{JobId, JobKind, Reply},
    recognition::GalleryName,
    results::{DeadLetter, DeadLetterDetails, JobResult, Stored},
    settings::Settings,
};

struct Shared {
    settings: Settings,
    client: JobClient,
    galleries: GalleryStores,
    spellings: Spellings,
    erasures: Erasures,
    /// The highest version seen of each gallery that is known to exist.
    gallery_versions: Mutex<HashMap<GalleryName, u64>>,
    receivers: Receivers,
    limits: RateLimits,
    readiness: Readiness,
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
    /// The gallery that names the faces.
    pub gallery: GalleryName,
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
        galleries: GalleryStores,
        erasures: Erasures,
        fleet: watch::Receiver<Arc<FleetView>>,
    ) -> Self {
        let (gallery_versions, receivers) = (Mutex::default(), Receivers::default());
        let (limits, readiness) = (RateLimits::new(&settings.http), Readiness::default());
        Self(Arc::new(Shared {
            settings,
            client,
            galleries,
            erasures,
            spellings: Spellings::default(),
            gallery_versions,
            receivers,
            limits,
            readiness,
            fleet,
        }))
    }

    /// Returns the settings of the node.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Returns how many uploads hold a place now.
    pub fn waiting(&self) -> usize {
        self.0.client.waiting()
    }

    /// Returns the age of the oldest job that is not done, if the queue tells.
    pub fn oldest_job(&self) -> Option<Duration> {
        self.0.client.oldest_job()
    }

    /// Returns whether more may be accepted, and the numbers behind that.
    pub fn headroom(&self) -> &Headroom {
        self.0.client.headroom()
    }

    /// Returns the limits of what each client may send.
    pub(super) fn limits(&self) -> &RateLimits {
        &self.0.limits
    }

    /// Takes one of the `http.max_receiving_per_address` places of an address for an upload that is being received.
    pub(super) fn receiving(&self, address: Option<IpAddr>) -> Result<Receiving, SubmitError> {
        let receiving = self.0.receivers.add(address, self.settings().http.max_receiving_per_address);
        receiving.ok_or(SubmitError::Overloaded {
            reason: "too many uploads from this address are being received",
            retry_after: Duration::from_secs(1),
        })
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

    fn submission(&self, Upload { id, kind, gallery, file, image }: Upload) -> Submission {
        let min_version = self.gallery_versions().get(&gallery).copied().unwrap_or(0);
        Submission {
            id,
            kind,
            retention: retention(kind),
            file,
            payload: image,
            dataset: dataset(&gallery),
            min_version,
        }
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

    /// Returns the dead letters, the one that was given up first coming first.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter>, CloudError> {
        self.0.client.results().dead_letters().await
    }

    /// Returns one dead letter with what is known of its message.
    pub async fn dead_letter(&self, id: JobId) -> Result<Option<DeadLetterDetails>, CloudError> {
        self.0.client.results().dead_letter(id).await
    }

    /// Sends a dead letter again. Returns `false` if there is none.
    pub async fn send_dead_letter_again(&self, id: JobId) -> Result<bool, SubmitError> {
        self.0.client.send_dead_letter_again(id).await
    }

    /// Purges a dead letter. Returns `false` if there is none.
    pub async fn purge_dead_letter(&self, id: JobId) -> Result<bool, CloudError> {
        self.0.client.results().purge_dead_letter(id).await
    }

    /// Returns the gallery with this name, which may be empty.
    pub fn gallery(&self, name: &GalleryName) -> GalleryStore {
        self.0.galleries.gallery(name)
    }

    /// Returns the names of all galleries.
    pub async fn gallery_names(&self) -> Result<Vec<GalleryName>, CloudError> {
        self.0.galleries.names().await
    }

    /// Returns the name of whoever is meant by a name in any case; `None` if there is nobody.
    pub async fn resolve(&self, gallery: &GalleryName, name: &str) -> Result<Option<String>, GalleryError> {
        self.0.spellings.resolve(&self.gallery(gallery), name).await
    }

    /// Returns whether a gallery exists: the default one always does, another one once a person was added to it.
    pub async fn gallery_exists(&self, name: &GalleryName) -> Result<bool, GalleryError> {
        if name.is_default() || self.gallery_versions().contains_key(name) {
            return Ok(true);
        }
        let version = self.gallery(name).manifest().await?.version;
        if version > 0 {
            self.saw_gallery(name, version);
        }
        Ok(version > 0)
    }

    /// Erases a person with all results that name them, even if the caller stops waiting.
    pub async fn erase(&self, gallery: &GalleryName, name: &str) -> Result<Erasure, GalleryError> {
        let (erasures, gallery_name, name) = (self.0.erasures.clone(), gallery.clone(), name.to_owned());
        let erased = tokio::spawn(async move { erasures.erase(&gallery_name, &name).await }).await;
        let (erasure, version) = erased.map_err(|error| CloudError::Unavailable(format!("erasure: {error}")))??;
        self.saw_gallery(gallery, version);
        Ok(erasure)
    }

    /// Makes jobs that are submitted from now on require at least this version of the gallery.
    pub fn saw_gallery(&self, name: &GalleryName, version: u64) {
        let mut versions = self.gallery_versions();
        let seen = versions.entry(name.clone()).or_default();
        *seen = version.max(*seen);
    }

    fn gallery_versions(&self) -> MutexGuard<'_, HashMap<GalleryName, u64>> {
        // A panic while it was locked leaves a map that is whole.
        self.0.gallery_versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what the fleet did.
    pub fn history(&self) -> &FleetHistory {
        self.0.client.history()
    }

    /// Returns a receiver that follows the view of the fleet.
    pub fn fleet(&self) -> watch::Receiver<Arc<FleetView>> {
        self.0.fleet.clone()
    }

    /// Returns whether queue and store can be reached, as they were found to be less than [`super::readiness::EVERY`] ago.
    pub(super) async fn ready(&self) -> Result<(), CloudError> {
        let client = self.0.client.clone();
        self.0.readiness.get(Instant::now(), async move || client.ready().await).await
    }
}

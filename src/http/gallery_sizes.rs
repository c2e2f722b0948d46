//! The versions and sizes of the galleries, for `/metrics`.

use std::time::Duration;

use metrics::gauge;
use tokio::{sync::Mutex, time::Instant};

use super::web_tier::WebTier;
use crate::{cloud::CloudError, inference::gallery::store::GalleryError};

/// Shortest time between two readings, which are calls to the object store.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// Number of galleries that have metrics: each is a series, and those of Prometheus should be few.
const MAX_GALLERIES: usize = 20;

/// Reads the galleries' sizes when somebody looks at them. The time of the latest reading.
#[derive(Default)]
pub(super) struct GallerySizes(Mutex<Option<Instant>>);

impl GallerySizes {
    /// Updates the metrics, unless that was done a short time ago. If the store cannot be read, they stay as they are.
    pub async fn update(&self, web: &WebTier) {
        let Ok(mut read) = self.0.try_lock() else { return };
        if read.is_some_and(|at| at.elapsed() < MIN_INTERVAL) {
            return;
        }
        *read = Some(Instant::now());
        if let Err(error) = set(web).await {
            tracing::warn!(%error, "the sizes of the galleries could not be read");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Names(#[from] CloudError),
    #[error(transparent)]
    Gallery(#[from] GalleryError),
}

async fn set(web: &WebTier) -> Result<(), ReadError> {
    for name in web.gallery_names().await?.into_iter().take(MAX_GALLERIES) {
        let manifest = web.gallery(&name).manifest().await?;
        let name = name.to_string();
        gauge!("rollcall_gallery_version", "gallery" => name.clone()).set(manifest.version as f64);
        gauge!("rollcall_gallery_people", "gallery" => name.clone()).set(manifest.people() as f64);
        gauge!("rollcall_gallery_photos", "gallery" => name).set(manifest.photos() as f64);
    }
    Ok(())
}

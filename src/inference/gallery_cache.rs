//! A reader that keeps the gallery in memory and follows the store.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use super::{
    gallery::Gallery,
    gallery_store::{self, GalleryError, GalleryStore},
};
use crate::cloud::{CloudError, ETag};

/// After the store had no version as new as was wanted, it is not asked again for that or a newer one for this long.
const PATIENCE: Duration = Duration::from_millis(50);

/// The newest gallery seen. Share it in an `Arc`.
pub struct GalleryCache {
    store: GalleryStore,
    current: watch::Sender<Arc<Gallery>>,
    /// Held while the store is asked: one request at a time.
    reading: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    etag: Option<ETag>,
    /// A version that was asked for and not there, and when.
    missing: Option<(u64, Instant)>,
}

impl GalleryCache {
    /// Starts empty; the first [`Self::refresh`] reads.
    pub fn new(store: GalleryStore) -> Self {
        Self { store, current: watch::Sender::new(Arc::default()), reading: Mutex::default() }
    }

    /// What was last seen; asks nobody.
    pub fn current(&self) -> Arc<Gallery> {
        self.current.borrow().clone()
    }

    /// A gallery of at least `version`, read at once if the one seen is older. An older one if the store has none
    /// as new (its gallery was deleted) or cannot be read, which is logged.
    pub async fn at_least(&self, version: u64) -> Arc<Gallery> {
        if self.current().version < version {
            let mut reading = self.reading.lock().await;
            let known_missing = reading.missing.is_some_and(|(v, at)| version >= v && at.elapsed() < PATIENCE);
            if self.current().version < version && !known_missing {
                if let Err(error) = self.read(&mut reading).await {
                    tracing::warn!(%error, wanted = version, "gallery not read, an older one is used");
                }
                if self.current().version < version {
                    reading.missing = Some((version, Instant::now()));
                }
            }
        }
        self.current()
    }

    /// Takes over the store's gallery if it has changed. An error leaves the present one in use.
    pub async fn refresh(&self) -> Result<Arc<Gallery>, GalleryError> {
        self.read(&mut *self.reading.lock().await).await?;
        Ok(self.current())
    }

    async fn read(&self, reading: &mut Reading) -> Result<(), GalleryError> {
        let GalleryStore { store, bucket, .. } = &self.store;
        let answer = match &reading.etag {
            Some(etag) => store.get_if_changed(bucket, gallery_store::KEY, etag).await,
            None => store.get(bucket, gallery_store::KEY).await.map(Some),
        };
        match answer {
            Ok(None) => {}
            Ok(Some(object)) => {
                let (gallery, etag) = gallery_store::decode(object).await?;
                reading.etag = Some(etag);
                self.current.send_replace(gallery);
            }
            Err(CloudError::NotFound(_)) => {
                reading.etag = None;
                self.current.send_replace(Arc::default());
            }
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }
}

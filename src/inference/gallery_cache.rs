//! A cache that keeps the gallery in memory and follows the store.

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

/// Shortest time before the store is read again for a version that it did not have, or for a newer one.
const PATIENCE: Duration = Duration::from_millis(50);

/// The newest gallery seen. Share it in an `Arc`.
pub struct GalleryCache {
    store: GalleryStore,
    current: watch::Sender<Arc<Gallery>>,
    /// Held while the store is read: one read at a time.
    reading: Mutex<Reading>,
}

#[derive(Default)]
struct Reading {
    etag: Option<ETag>,
    /// A version that the store did not have, and when it was read.
    missing: Option<(u64, Instant)>,
}

impl GalleryCache {
    /// Creates an empty cache; the first [`Self::refresh`] reads the store.
    pub fn new(store: GalleryStore) -> Self {
        Self { store, current: watch::Sender::new(Arc::default()), reading: Mutex::default() }
    }

    /// Returns the gallery as last read, without reading the store.
    pub fn current(&self) -> Arc<Gallery> {
        self.current.borrow().clone()
    }

    /// Returns a gallery of at least `version`, and reads the store if the cached one is older. Returns an older one if
    /// the store has none as new (its gallery was deleted), or if it cannot be read, which is logged.
    pub async fn at_least(&self, version: u64) -> Arc<Gallery> {
        if self.current().version < version {
            let mut reading = self.reading.lock().await;
            let known_missing = reading.missing.is_some_and(|(v, at)| version >= v && at.elapsed() < PATIENCE);
            if self.current().version < version && !known_missing {
                if let Err(error) = self.read(&mut reading).await {
                    tracing::warn!(%error, wanted = version, "gallery not read: using an older one");
                }
                if self.current().version < version {
                    reading.missing = Some((version, Instant::now()));
                }
            }
        }
        self.current()
    }

    /// Reads the store's gallery if it has changed. After an error, the cached one stays in use.
    pub async fn refresh(&self) -> Result<Arc<Gallery>, GalleryError> {
        self.read(&mut *self.reading.lock().await).await?;
        Ok(self.current())
    }

    async fn read(&self, reading: &mut Reading) -> Result<(), GalleryError> {
        let GalleryStore { store, bucket, .. } = &self.store;
        let result = match &reading.etag {
            Some(etag) => store.get_if_changed(bucket, gallery_store::KEY, etag).await,
            None => store.get(bucket, gallery_store::KEY).await.map(Some),
        };
        match result {
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

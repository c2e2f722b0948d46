//! The galleries of a process, by name.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    cache::GalleryCache,
    index_files::IndexPlace,
    kept_photos::{self, KeptPhoto},
    keys::{MANIFEST, NAMED},
    search::Gallery,
    store::GalleryStore,
};
use crate::{
    cloud::{CloudError, ObjectStore},
    recognition::GalleryName,
    settings::{self, CloudKind, Settings},
};

/// Folder of the indexes in `local.data_dir`.
const INDEX_FOLDER: &str = "index";
/// Folder of the indexes of a machine on AWS, which runs one worker. Unlike `/tmp`, it is never in memory.
const UNNAMED_FOLDER: &str = "/var/tmp";
/// Time after which a gallery that was not used is no longer kept in memory.
const UNUSED: Duration = Duration::from_secs(600);

/// Opens galleries in the object store. Cheap to clone.
#[derive(Clone)]
pub struct GalleryStores {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    limits: settings::Gallery,
    indexes: IndexPlace,
}

impl GalleryStores {
    /// Creates a handle to the galleries in `store`.
    pub fn new(store: Arc<dyn ObjectStore>, settings: &Settings) -> Self {
        let indexes = match settings.cloud.kind {
            CloudKind::Local => IndexPlace::Shared(settings.local.data_dir.join(INDEX_FOLDER)),
            CloudKind::Aws => IndexPlace::Unnamed(PathBuf::from(UNNAMED_FOLDER)),
        };
        let (bucket, limits) = (settings.store.state.clone(), settings.gallery.clone());
        Self { store, bucket, limits, indexes }
    }

    /// Returns a handle to the gallery with this name, which may be empty.
    pub fn gallery(&self, name: &GalleryName) -> GalleryStore {
        GalleryStore::new(self.store.clone(), self.bucket.clone(), name, &self.limits, self.indexes.clone())
    }

    /// Returns the names of the galleries to which somebody was ever added, sorted, after the default one.
    pub async fn names(&self) -> Result<Vec<GalleryName>, CloudError> {
        let listed = self.store.list(&self.bucket, NAMED).await?;
        let named =
            listed.iter().filter_map(|object| object.key.strip_prefix(NAMED)?.strip_suffix(MANIFEST)?.parse().ok());
        let mut named: Vec<GalleryName> = named.collect();
        named.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        named.insert(0, GalleryName::default());
        Ok(named)
    }

    /// Returns where the kept photos of every gallery are.
    pub(super) async fn kept_photos(&self) -> Result<Vec<KeptPhoto>, CloudError> {
        kept_photos::list(&*self.store, &self.bucket).await
    }
}

/// The galleries that a worker uses, ready to be searched.
pub struct Galleries {
    stores: GalleryStores,
    caches: Mutex<HashMap<GalleryName, Used>>,
}

/// A cache, and when it was last used.
struct Used {
    cache: Arc<GalleryCache>,
    at: Instant,
}

impl Galleries {
    /// Creates an empty collection; a gallery is read when it is first used.
    pub fn new(stores: GalleryStores) -> Self {
        Self { stores, caches: Mutex::default() }
    }

    /// Returns the cache of a gallery.
    pub fn cache(&self, name: &GalleryName) -> Arc<GalleryCache> {
        let at = Instant::now();
        let new = || Used { cache: Arc::new(GalleryCache::new(self.stores.gallery(name))), at };
        let mut caches = self.caches();
        let used = caches.entry(name.clone()).or_insert_with(new);
        used.at = at;
        used.cache.clone()
    }

    fn caches(&self) -> MutexGuard<'_, HashMap<GalleryName, Used>> {
        // A panic while it was locked leaves a map that is whole.
        self.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a gallery as last read, without reading the store.
    pub fn current(&self, name: &GalleryName) -> Arc<Gallery> {
        self.cache(name).current()
    }

    /// Reads every gallery in use that has changed, and renews indexes. One that cannot be read stays as it is, which
    /// is logged. One that was not used for ten minutes is dropped.
    pub async fn refresh(&self) {
        let caches: Vec<_> = {
            let mut caches = self.caches();
            caches.retain(|name, used| name.is_default() || used.at.elapsed() < UNUSED);
            caches.iter().map(|(name, used)| (name.clone(), used.cache.clone())).collect()
        };
        let refreshes = caches.into_iter().map(|(gallery, cache)| async move {
            match cache.refresh().await {
                Ok(_) => drop(tokio::spawn(renew_index(gallery, cache))),
                Err(error) => tracing::warn!(%error, %gallery, "gallery not refreshed"),
            }
        });
        join_all(refreshes).await;
    }
}

/// Renews the index of a gallery if it needs one, which takes seconds.
async fn renew_index(gallery: GalleryName, cache: Arc<GalleryCache>) {
    if let Err(error) = cache.renew_index().await {
        tracing::warn!(%error, %gallery, "the index of a gallery was not renewed");
    }
}

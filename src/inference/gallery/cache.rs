//! A cache that keeps a gallery ready to be searched, and follows the store.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::Instant,
};

use super::{
    index_files::{Content, IndexedParts},
    manifest::{Manifest, PartId},
    search::{Difference, Gallery, Indexed},
    store::{GalleryError, GalleryStore, unblocked},
};
use crate::cloud::{CloudError, ETag};

/// Shortest time before the store is read again for a version that it did not have, or for a newer one.
const PATIENCE: Duration = Duration::from_millis(50);
/// Parts that are read ahead of the one that is indexed.
const READ_AHEAD: usize = 4;
/// Parts that are read at the same time.
const CONCURRENT: usize = 16;
/// Attempts to read a version all of whose parts are there.
const MAX_ATTEMPTS: usize = 10;

/// When photos are searched by an index, and when it is renewed.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexRules {
    /// Photos in a gallery from which it has an index. A gallery with fewer is scanned, which takes 0.2 ms at most.
    pub min_photos: usize,
    /// Photos that are not in the index, because they were added or changed, from which it is built anew. They are
    /// scanned, and each process has them in its own memory.
    pub max_others: usize,
}

impl Default for IndexRules {
    fn default() -> Self {
        Self { min_photos: 16_384, max_others: 8_192 }
    }
}

/// The newest version of a gallery that was seen. Share it in an `Arc`.
pub struct GalleryCache {
    store: GalleryStore,
    rules: IndexRules,
    current: watch::Sender<Arc<Gallery>>,
    /// Held while the store is read: one read at a time.
    reading: Mutex<Reading>,
    /// Held while a new index is built.
    renewing: Mutex<()>,
}

#[derive(Default)]
struct Reading {
    etag: Option<ETag>,
    manifest: Manifest,
    /// A version that the store did not have, and when it was read.
    missing: Option<(u64, Instant)>,
    index: Option<Arc<IndexedParts>>,
    /// The parts of the version that are not in the index.
    parts: HashMap<PartId, Arc<Difference>>,
    /// Owners in the index who are not in the gallery.
    hidden: Arc<HashSet<u32>>,
}

impl GalleryCache {
    /// Creates an empty cache; the first [`Self::refresh`] reads the store.
    pub fn new(store: GalleryStore) -> Self {
        Self::with_rules(store, IndexRules::default())
    }

    pub(super) fn with_rules(store: GalleryStore, rules: IndexRules) -> Self {
        Self {
            store,
            rules,
            current: watch::Sender::new(Arc::default()),
            reading: Mutex::default(),
            renewing: Mutex::default(),
        }
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
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn refresh(&self) -> Result<Arc<Gallery>, GalleryError> {
        self.read(&mut *self.reading.lock().await).await?;
        Ok(self.current())
    }

    /// Builds a new index if too many photos are not in it. Meanwhile the gallery can be searched and refreshed. Returns
    /// at once if this is under way.
    pub async fn renew_index(&self) -> Result<(), GalleryError> {
        let Ok(_renewing) = self.renewing.try_lock() else { return Ok(()) };
        let (manifest, known) = {
            let reading = self.reading.lock().await;
            if !reading.needs_index(self.rules) {
                return Ok(());
            }
            (reading.manifest.clone(), reading.index.as_ref().map(|index| index.version))
        };
        let index = self.build(&manifest, known).await?;
        let mut reading = self.reading.lock().await;
        reading.replace_index(Some(index));
        self.read(&mut reading).await
    }

    async fn read(&self, reading: &mut Reading) -> Result<(), GalleryError> {
        let mut older = None;
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 1 {
                tokio::time::sleep(PATIENCE).await;
            }
            let Some((manifest, etag)) = self.store.manifest_if_changed(reading.etag.as_ref()).await? else {
                return Ok(());
            };
            self.choose_index(reading, &manifest).await?;
            // An index may be newer than the manifest, if another process has built it meanwhile. Then the next read
            // returns a newer manifest, unless the store has been replaced by an earlier state.
            if reading.index.as_ref().is_some_and(|index| index.version > manifest.version) {
                if older.replace(manifest.version) == Some(manifest.version) {
                    tracing::warn!(version = manifest.version, "the gallery is older than its index: building another");
                    reading.replace_index(None);
                    let files = self.store.index_files().clone();
                    unblocked(move || files.delete_newer(manifest.version)).await??;
                }
            } else if self.adopt(reading, manifest).await? {
                reading.etag = etag;
                return Ok(());
            }
        }
        Err(CloudError::Conflict("the gallery changes faster than it can be read".into()).into())
    }

    /// Makes sure that there is an index if the version needs one, and none otherwise.
    async fn choose_index(&self, reading: &mut Reading, manifest: &Manifest) -> Result<(), GalleryError> {
        let dimension = manifest.dimension().unwrap_or(0);
        if manifest.photos() < self.rules.min_photos {
            reading.replace_index(None);
        } else if reading.index.as_ref().is_none_or(|index| index.index.dimension() != dimension) {
            let files = self.store.index_files().clone();
            let found = unblocked(move || files.newest(dimension)).await?;
            // Without an index, everybody would have to fit into the memory of this process.
            let index = match found {
                Some(index) => Some(Arc::new(index)),
                None => self.build_unless_disk_fails(manifest, None).await?,
            };
            reading.replace_index(index);
        }
        Ok(())
    }

    /// Makes a version current. Returns `false` if one of its parts is gone, because there is a newer version.
    async fn adopt(&self, reading: &mut Reading, manifest: Manifest) -> Result<bool, GalleryError> {
        let mut differences = self.differences(reading, &manifest, 4 * self.rules.max_others).await?;
        if matches!(differences, Differences::TooMany) {
            let known = reading.index.as_ref().map(|index| index.version);
            let index = self.build_unless_disk_fails(&manifest, known).await?;
            reading.replace_index(index);
            differences = self.differences(reading, &manifest, usize::MAX).await?;
        }
        let Differences::Found(differences) = differences else { return Ok(false) };
        let index = reading.index.clone();
        let hidden = Arc::new(index.as_ref().map_or_else(HashSet::new, |i| hidden(i, &manifest, &differences)));
        let indexed = index.as_ref().map(|i| Indexed { index: i.index.clone(), hidden: hidden.clone() });
        let rows = manifest.parts.iter().filter_map(|part| differences.get(&part.id));
        let rows: Vec<_> = rows.filter(|d| d.others.photos() > 0).map(|d| d.others.clone()).collect();
        let what = (manifest.version, manifest.model.clone(), manifest.dimension());
        let gallery = Gallery::of_parts(what, indexed, rows.clone()).learned_from(&self.current());
        self.current.send_replace(Arc::new(gallery));

        // Whoever has changed is still there: processes that have an older version need their rows.
        let removed = hidden.difference(&reading.hidden).copied().filter(|&owner| {
            let name = index.as_ref().map_or("", |index| index.index.label(owner));
            rows.iter().all(|others| !others.has(name))
        });
        let removed: HashSet<u32> = removed.collect();
        if let Some(index) = index.as_ref().filter(|_| !removed.is_empty()) {
            let index = index.index.clone();
            unblocked(move || index.erase(&removed)).await??;
        }
        (reading.manifest, reading.parts, reading.hidden) = (manifest, differences, hidden);
        Ok(true)
    }

    /// Reads the parts of a version that are neither in the index nor were read before, as long as they have at most
    /// `max_others` photos that are not in the index, if there is one.
    async fn differences(
        &self,
        reading: &Reading,
        manifest: &Manifest,
        max_others: usize,
    ) -> Result<Differences, GalleryError> {
        let index = reading.index.as_ref();
        let known = |id: &PartId| reading.parts.get(id).filter(|_| *id != PartId::SNAPSHOT).cloned();
        let mut outside: Vec<PartId> = manifest.parts.iter().map(|part| part.id).collect();
        // All snapshots of earlier releases have the same id.
        // People with rejected faces are not in the index.
        let partly = |id: &PartId| *id == PartId::SNAPSHOT || manifest.with_rejected.contains(id);
        outside.retain(|id| partly(id) || index.is_none_or(|index| !index.parts.contains_key(id)));
        let mut read = stream::iter(outside)
            .map(|id| async move {
                if let Some(difference) = known(&id) {
                    return Ok((id, difference));
                }
                let part = self.store.part(manifest, id).await?;
                let index = index.map(|index| index.index.clone());
                let difference = unblocked(move || Difference::of(&part, index.as_deref())).await?;
                Ok::<_, GalleryError>((id, Arc::new(difference)))
            })
            .buffer_unordered(CONCURRENT);
        let (mut differences, mut others) = (HashMap::new(), 0);
        while let Some(read) = read.next().await {
            let Some((id, difference)) = self.store.unless_newer(manifest, read).await? else {
                return Ok(Differences::Gone);
            };
            others += difference.others.indexable();
            if index.is_some() && others > max_others {
                return Ok(Differences::TooMany);
            }
            differences.insert(id, difference);
        }
        Ok(Differences::Found(differences))
    }

    /// Builds an index. Returns `None` if its file cannot be written: then photos are scanned, which takes longer and
    /// more memory, but the gallery is the newest.
    async fn build_unless_disk_fails(
        &self,
        manifest: &Manifest,
        known: Option<u64>,
    ) -> Result<Option<Arc<IndexedParts>>, GalleryError> {
        match self.build(manifest, known).await {
            Ok(index) => Ok(Some(index)),
            Err(GalleryError::Index(error)) => {
                tracing::warn!(%error, "the index of a large gallery cannot be written: searching without one");
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Builds an index of a version, or returns a newer one than `known` that another process has built. Parts that
    /// are gone meanwhile, because there is a newer version, are not in it.
    async fn build(&self, manifest: &Manifest, known: Option<u64>) -> Result<Arc<IndexedParts>, GalleryError> {
        let (files, version) = (self.store.index_files().clone(), manifest.version);
        let dimension = manifest.dimension().unwrap_or(1);
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let building = tokio::task::spawn_blocking(move || files.build(version, dimension, known, receiver));
        let ids: Vec<PartId> = manifest.parts.iter().map(|part| part.id).collect();
        let mut parts =
            stream::iter(ids).map(|id| async move { (id, self.store.part(manifest, id).await) }).buffered(READ_AHEAD);
        let sent = async {
            while let Some((id, part)) = parts.next().await {
                let Some(part) = self.store.unless_newer(manifest, part).await? else { continue };
                if sender.send(Content::Part(id, part)).await.is_err() {
                    return Ok(()); // another process has built one, or building has failed
                }
            }
            let _ = sender.send(Content::End).await;
            Ok::<_, GalleryError>(())
        };
        let sent = sent.await;
        drop(sender);
        let built = building.await.map_err(|error| CloudError::Unavailable(error.to_string()))?;
        sent?; // the cause, if building has failed because of it
        let index = built?;
        tracing::info!(version = index.version, photos = index.index.rows(), "the gallery has a new index");
        Ok(Arc::new(index))
    }
}

impl Reading {
    /// Uses another index. What is known about the parts depends on it.
    fn replace_index(&mut self, index: Option<Arc<IndexedParts>>) {
        if self.index.is_none() && index.is_none() {
            return;
        }
        self.index = index;
        self.etag = None;
        self.parts.clear();
        self.hidden = Arc::default();
    }

    fn needs_index(&self, rules: IndexRules) -> bool {
        let others: usize = self.parts.values().map(|part| part.others.indexable()).sum();
        self.index.is_some() && others > rules.max_others
    }
}

/// The parts of a version outside of an index.
enum Differences {
    Found(HashMap<PartId, Arc<Difference>>),
    /// One of the parts is gone.
    Gone,
    /// They have so many photos that the index must be built anew.
    TooMany,
}

/// Returns the owners in an index who are not, or not like this, in the version.
fn hidden(index: &IndexedParts, manifest: &Manifest, differences: &HashMap<PartId, Arc<Difference>>) -> HashSet<u32> {
    let current = manifest.parts.iter().map(|part| part.id).filter(|id| *id != PartId::SNAPSHOT);
    let current: HashSet<PartId> = current.collect();
    let gone = index.parts.iter().filter(|(id, _)| !current.contains(id));
    let mut hidden: HashSet<u32> = gone.flat_map(|(_, owners)| owners.clone()).collect();
    for owner in differences.values().flat_map(|difference| &difference.same) {
        hidden.remove(owner);
    }
    hidden
}

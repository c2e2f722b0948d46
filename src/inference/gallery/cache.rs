//! A cache that keeps a gallery ready to be searched, and follows the store.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::Instant,
};

use super::{
    index_files::IndexedParts,
    manifest::{Manifest, PartId},
    search::{Difference, Gallery, Indexed},
    store::{GalleryError, GalleryStore, unblocked},
};
use crate::cloud::ETag;

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
        Self { store, rules, current: watch::Sender::new(Arc::default()), reading: Mutex::default() }
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

    /// Builds a new index if too many photos are not in it. Meanwhile the gallery can be searched and refreshed.
    pub async fn renew_index(&self) -> Result<(), GalleryError> {
        let (manifest, known) = {
            let reading = self.reading.lock().await;
            if !reading.needs_index(self.rules) {
                return Ok(());
            }
            (reading.manifest.clone(), reading.index.as_ref().map(|index| index.version))
        };
        let index = self.build(&manifest, known).await?;
        let mut reading = self.reading.lock().await;
        let manifest = reading.manifest.clone();
        self.adopt(&mut reading, manifest, Some(index)).await.map(drop)
    }

    async fn read(&self, reading: &mut Reading) -> Result<(), GalleryError> {
        for _ in 0..MAX_ATTEMPTS {
            let Some((manifest, etag)) = self.store.manifest_if_changed(reading.etag.as_ref()).await? else {
                return Ok(());
            };
            let index = if manifest.photos() < self.rules.min_photos {
                None
            } else if reading.index.is_some() {
                reading.index.clone()
            } else {
                let files = self.store.index_files().clone();
                match unblocked(move || files.newest()).await? {
                    Some(index) => Some(Arc::new(index)),
                    // Without an index, everybody would have to fit into the memory of this process.
                    None => Some(self.build(&manifest, None).await?),
                }
            };
            if self.adopt(reading, manifest, index).await? {
                reading.etag = etag;
                return Ok(());
            }
        }
        tracing::warn!("the gallery changes faster than it can be read: using an older version");
        Ok(())
    }

    /// Makes a version current, with an index of it or of an earlier one. Returns `false` if one of its parts is gone,
    /// because there is a newer version.
    async fn adopt(
        &self,
        reading: &mut Reading,
        manifest: Manifest,
        mut index: Option<Arc<IndexedParts>>,
    ) -> Result<bool, GalleryError> {
        let differences = match self.differences(reading, &manifest, index.as_ref()).await? {
            Differences::Found(differences) => differences,
            Differences::Gone => return Ok(false),
            Differences::TooMany => {
                index = Some(self.build(&manifest, index.map(|index| index.version)).await?);
                match self.differences(reading, &manifest, index.as_ref()).await? {
                    Differences::Found(differences) => differences,
                    Differences::Gone | Differences::TooMany => return Ok(false),
                }
            }
        };
        let hidden = match &index {
            Some(index) => hidden(index, &manifest, &differences),
            None => HashSet::new(),
        };
        let hidden = Arc::new(hidden);
        let indexed = index.as_ref().map(|i| Indexed { index: i.index.clone(), hidden: hidden.clone() });
        let rows = manifest.parts.iter().filter_map(|part| differences.get(&part.id));
        let rows = rows.filter(|difference| difference.others.photos() > 0).map(|difference| difference.others.clone());
        let what = (manifest.version, manifest.model.clone(), manifest.dimension());
        self.current.send_replace(Arc::new(Gallery::of_parts(what, indexed, rows.collect())));

        if let Some(index) = &index {
            let newly: Vec<u32> = match &reading.index {
                Some(old) if Arc::ptr_eq(old, index) => hidden.difference(&reading.hidden).copied().collect(),
                _ => hidden.iter().copied().collect(),
            };
            erase(index, newly).await?;
        }
        let (etag, missing) = (reading.etag.take(), reading.missing);
        *reading = Reading { etag, manifest, missing, index, parts: differences, hidden };
        Ok(true)
    }

    /// Reads the parts of a version that are neither in the index nor were read before.
    async fn differences(
        &self,
        reading: &Reading,
        manifest: &Manifest,
        index: Option<&Arc<IndexedParts>>,
    ) -> Result<Differences, GalleryError> {
        let same_index = match (&reading.index, index) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        let known = |id: &PartId| reading.parts.get(id).filter(|_| same_index).cloned();
        let mut outside: Vec<PartId> = manifest.parts.iter().map(|part| part.id).collect();
        outside.retain(|id| index.is_none_or(|index| !index.parts.contains_key(id)));
        let mut read = stream::iter(outside)
            .map(|id| async move {
                if let Some(difference) = known(&id).filter(|_| id != PartId::SNAPSHOT) {
                    return Ok(Some((id, difference)));
                }
                let Some(part) = self.store.part(manifest, id).await? else { return Ok(None) };
                let index = index.map(|index| index.index.clone());
                let difference = unblocked(move || Difference::of(&part, index.as_deref())).await?;
                Ok::<_, GalleryError>(Some((id, Arc::new(difference))))
            })
            .buffer_unordered(CONCURRENT);
        let (mut differences, mut others) = (HashMap::new(), 0);
        while let Some(read) = read.try_next().await? {
            let Some((id, difference)) = read else { return Ok(Differences::Gone) };
            others += difference.others.photos();
            if index.is_some() && others > 4 * self.rules.max_others {
                return Ok(Differences::TooMany);
            }
            differences.insert(id, difference);
        }
        Ok(Differences::Found(differences))
    }

    /// Builds an index of a version, or returns a newer one than `known` that another process has built. Parts that
    /// are gone meanwhile are not in it.
    async fn build(&self, manifest: &Manifest, known: Option<u64>) -> Result<Arc<IndexedParts>, GalleryError> {
        let (files, version) = (self.store.index_files().clone(), manifest.version);
        let dimension = manifest.dimension().unwrap_or(1);
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let building = tokio::task::spawn_blocking(move || files.build(version, dimension, known, receiver));
        let ids: Vec<PartId> = manifest.parts.iter().map(|part| part.id).collect();
        let mut parts = stream::iter(ids)
            .map(|id| async move { Ok::<_, GalleryError>((id, self.store.part(manifest, id).await?)) })
            .buffered(CONCURRENT);
        let sent = async {
            while let Some((id, part)) = parts.try_next().await? {
                let Some(part) = part else { continue };
                if sender.send((id, part)).await.is_err() {
                    break; // another process has built one, or building has failed
                }
            }
            Ok::<_, GalleryError>(())
        };
        let sent = sent.await;
        drop(sender);
        let index = unblocked_result(building.await)??;
        sent?;
        tracing::info!(version = index.version, photos = index.index.rows(), "the gallery has a new index");
        Ok(Arc::new(index))
    }
}

fn unblocked_result<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, GalleryError> {
    result.map_err(|error| crate::cloud::CloudError::Unavailable(error.to_string()).into())
}

impl Reading {
    fn needs_index(&self, rules: IndexRules) -> bool {
        let others: usize = self.parts.values().map(|part| part.others.photos()).sum();
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
    let current: HashSet<PartId> = manifest.parts.iter().map(|part| part.id).collect();
    let gone = index.parts.iter().filter(|(id, _)| !current.contains(id));
    let mut hidden: HashSet<u32> = gone.flat_map(|(_, owners)| owners.clone()).collect();
    for owner in differences.values().flat_map(|difference| &difference.same) {
        hidden.remove(owner);
    }
    hidden
}

/// Overwrites people in the index with zeros.
async fn erase(index: &Arc<IndexedParts>, owners: Vec<u32>) -> Result<(), GalleryError> {
    let index = index.index.clone();
    let erased = unblocked(move || owners.into_iter().try_for_each(|owner| index.erase(owner)));
    Ok(erased.await??)
}

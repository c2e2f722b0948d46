//! A gallery in the object store: a manifest, replaced by conditional puts so that no writer overwrites the change of
//! another, and parts. A part that is no longer in the manifest is deleted, so that nothing remains of a person who was
//! removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use super::error::GalleryError;
use super::{
    change::{Change, Limits, Next},
    index_files::{IndexFiles, IndexPlace},
    kept_photos::KeptPhotos,
    keys::{MANIFEST, NAMED},
    manifest::{Manifest, PartId},
    part::Part,
    person::Person,
    update::Update,
};
use crate::{
    cloud::{CloudError, ETag, Object, ObjectStore, Precondition},
    recognition::{GalleryName, ModelId},
    settings, wire,
};

/// Numbers (f32) in the embeddings of one part: 256 KiB, so that few bytes move when a person is added.
const MAX_PART: usize = 64 << 10;
/// Parts that are read or written at the same time.
pub(super) const CONCURRENT: usize = 16;
/// Attempts to write while others write at the same time. With the pauses below, they take some seconds.
const MAX_ATTEMPTS: u32 = 20;
const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// Some of the people in a gallery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Version of the gallery.
    pub version: u64,
    /// Number of people in the gallery.
    pub total: usize,
    /// Names and numbers of photos, sorted by name.
    pub people: Vec<(String, usize)>,
    /// Whether more people follow.
    pub more: bool,
}

/// A gallery in the object store. Cheap to clone.
#[derive(Clone)]
pub struct GalleryStore {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) bucket: String,
    /// Prefix of the gallery's keys.
    pub(super) prefix: String,
    pub(super) kept: KeptPhotos,
    limits: Limits,
    index_files: IndexFiles,
}

impl GalleryStore {
    /// Creates a handle to the gallery `name` in `bucket` of `store`. Changes are subject to `limits`. Whoever is
    /// removed is erased in the indexes at `indexes`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        bucket: String,
        name: &GalleryName,
        limits: &settings::Gallery,
        indexes: IndexPlace,
    ) -> Self {
        let prefix = if name.is_default() { "gallery".to_owned() } else { format!("{NAMED}{name}") };
        let limits = Limits { max_people: limits.max_people, max_photos: limits.max_photos, max_part: MAX_PART };
        let kept = KeptPhotos::new(store.clone(), bucket.clone(), name);
        Self { store, bucket, prefix, kept, limits, index_files: IndexFiles::new(indexes, name.to_string()) }
    }

    /// Returns a gallery with parts of at most `numbers` numbers, for tests.
    #[cfg(test)]
    pub(super) fn with_max_part(mut self, numbers: usize) -> Self {
        self.limits.max_part = numbers;
        self
    }

    /// Returns how many people there may be.
    pub(super) fn max_people(&self) -> usize {
        self.limits.max_people
    }

    /// Returns the index files of this gallery.
    pub(super) fn index_files(&self) -> &IndexFiles {
        &self.index_files
    }

    /// Reads the manifest; that of the empty gallery of version 0 if there is none.
    pub async fn manifest(&self) -> Result<Manifest, GalleryError> {
        Ok(self.current().await?.0)
    }

    /// Returns up to `limit` people whose names follow `after`.
    pub async fn people(&self, after: Option<&str>, limit: usize) -> Result<Page, GalleryError> {
        let mut reader = self.reader(after).await?;
        let mut people = Vec::new();
        while people.len() <= limit
            && let Some(part) = reader.next().await?
        {
            people.extend(part.people.into_iter().map(|person| (person.name, person.embeddings.len())));
        }
        let more = people.len() > limit;
        people.truncate(limit);
        Ok(Page { version: reader.manifest.version, total: reader.manifest.people(), people, more })
    }

    /// Returns a reader of all people whose names follow `after`, part by part.
    pub async fn reader(&self, after: Option<&str>) -> Result<PartReader<'_>, GalleryError> {
        let manifest = self.manifest().await?;
        let next = after.map_or(0, |after| manifest.part_of(after));
        Ok(PartReader { gallery: self, manifest, next, after: after.map(str::to_owned) })
    }

    /// Reads everybody. For a gallery that fits into memory.
    pub async fn everybody(&self) -> Result<Vec<Person>, GalleryError> {
        let mut reader = self.reader(None).await?;
        let mut people = Vec::new();
        while let Some(part) = reader.next().await? {
            people.extend(part.people);
        }
        Ok(people)
    }

    /// Adds embeddings of several people, all of `model`, in one version. If one is invalid, none is added. Returns the
    /// new manifest, or the current one if the gallery has all of them already.
    pub async fn add_people(&self, people: Vec<Person>, model: ModelId) -> Result<Manifest, GalleryError> {
        Ok(self.update(Change::Add(people, model)).await?.manifest)
    }

    /// Replaces everybody with `people`, embedded by `model`, whatever the gallery's model was, and returns the new
    /// manifest. Repairs a gallery that is damaged.
    pub async fn replace(&self, people: Vec<Person>, model: ModelId) -> Result<Manifest, GalleryError> {
        // The photos are deleted only when nothing can refuse the change any more.
        let mut update = self.update(Change::Replace(people, model)).await?;
        self.release_all_names().await?;
        self.forget_files().await?;
        self.finish(&mut update).await?;
        Ok(update.manifest)
    }

    /// Applies `change` to the newest version and writes the result, if there is one, on condition that nobody else has
    /// written since. Otherwise tries again.
    pub(super) async fn update(&self, change: Change) -> Result<Update, GalleryError> {
        let change = Arc::new(change);
        let mut pause = MIN_BACKOFF;
        for _ in 0..MAX_ATTEMPTS {
            let (manifest, etag) = self.current().await?;
            let parts = self.parts(&manifest, change.concerned(&manifest)).await;
            if let Some(parts) = self.unless_newer(&manifest, parts).await? {
                let (change, limits, current) = (change.clone(), self.limits, manifest.clone());
                let next = unblocked(move || change.apply(&current, parts, limits)).await??;
                let (people_before, photos_before) = (manifest.people(), manifest.photos());
                let Some(Next { manifest, written, obsolete, removed }) = next else {
                    return Ok(Update::none(manifest));
                };
                if self.write(&manifest, &written, etag).await? {
                    let deleted = async {
                        self.delete_parts(obsolete).await?;
                        self.delete_orphans().await
                    };
                    let (parts, deleted) = (written.into_iter().map(|(_, part)| part).collect(), deleted.await);
                    if let Err(error) = &deleted {
                        tracing::warn!(%error, "old parts of the gallery could not be deleted yet");
                    }
                    return Ok(Update {
                        manifest,
                        people_before,
                        photos_before,
                        removed,
                        parts,
                        written: true,
                        deleted,
                    });
                }
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(MAX_BACKOFF);
        }
        Err(CloudError::Conflict("others keep changing the gallery; try again".into()).into())
    }

    /// Returns what was read of a version; `None` if that failed because there is a newer version by now.
    pub(super) async fn unless_newer<T>(
        &self,
        manifest: &Manifest,
        read: Result<T, GalleryError>,
    ) -> Result<Option<T>, GalleryError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(GalleryError::Store(CloudError::NotFound(_))) if self.manifest().await?.version != manifest.version => {
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Reads the parts at these positions.
    ///
    /// # Errors
    /// `NotFound` if one is gone, because there is a newer version.
    pub(super) async fn parts(
        &self,
        manifest: &Manifest,
        positions: BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Part>, GalleryError> {
        let parts = stream::iter(positions).map(|at| async move {
            let Some(info) = manifest.parts.get(at) else { return Ok(None) };
            Ok::<_, GalleryError>(Some((at, self.part(manifest, info.id).await?)))
        });
        let parts: Vec<_> = parts.buffer_unordered(CONCURRENT).try_collect().await?;
        Ok(parts.into_iter().flatten().collect())
    }

    /// Writes new parts and then the manifest. Returns `false`, and leaves nothing, if another writer was faster.
    async fn write(
        &self,
        manifest: &Manifest,
        parts: &[(PartId, Part)],
        etag: Option<ETag>,
    ) -> Result<bool, GalleryError> {
        let ids: Vec<PartId> = parts.iter().map(|(id, _)| *id).collect();
        let written = stream::iter(0..parts.len()).map(|at| async move {
            let (id, part) = &parts[at];
            let bytes = wire::to_bytes(part).map_err(|error| GalleryError::Refused(error.to_string()))?;
            self.store.put(&self.bucket, &self.part_key(*id), bytes, Precondition::Always).await?;
            Ok::<_, GalleryError>(())
        });
        if let Err(error) = written.buffer_unordered(CONCURRENT).try_collect::<Vec<()>>().await {
            let _ = self.delete_parts(ids).await; // otherwise they are orphans
            return Err(error);
        }
        let bytes = wire::to_bytes(manifest).map_err(|e| GalleryError::Refused(e.to_string()))?;
        let when = etag.map_or(Precondition::Absent, Precondition::Match);
        match self.store.put(&self.bucket, &self.manifest_key(), bytes, when).await {
            Ok(_) => Ok(true),
            Err(CloudError::Conflict(_) | CloudError::NotFound(_)) => {
                // A repeated put conflicts with its own first attempt. If others have built on that since, the newest
                // manifest contains these parts. Of a manifest without new parts, an equal one of another writer is as
                // good.
                let newest = self.manifest().await?;
                let used: HashSet<PartId> = newest.parts.iter().map(|part| part.id).collect();
                let unused: Vec<PartId> = ids.into_iter().filter(|id| !used.contains(id)).collect();
                let applied = newest == *manifest || !parts.is_empty() && unused.is_empty();
                let _ = self.delete_parts(unused).await; // otherwise they are orphans
                Ok(applied)
            }
            // The manifest may have been written nevertheless, so the parts stay. If not, they are orphans.
            Err(other) => Err(other.into()),
        }
    }

    /// Checks that every part of the manifest is there.
    ///
    /// # Errors
    /// A part is missing, and no newer version explains why; or the store failed.
    pub async fn check(&self) -> Result<Manifest, GalleryError> {
        let prefix = self.part_key_prefix();
        for attempt in 0.. {
            let manifest = self.manifest().await?;
            let listed = self.store.list(&self.bucket, &prefix).await?;
            let there: HashSet<&str> = listed.iter().filter_map(|object| object.key.strip_prefix(&prefix)).collect();
            let missing = manifest.parts.iter().filter(|part| part.id != PartId::SNAPSHOT).map(|p| p.id.to_string());
            match missing.into_iter().find(|id| !there.contains(id.as_str())) {
                None => return Ok(manifest),
                Some(id) if attempt == 2 || self.manifest().await?.version == manifest.version => {
                    return Err(CloudError::NotFound(format!("{prefix}{id}, a part of the gallery")).into());
                }
                Some(_) => {}
            }
        }
        unreachable!("the third attempt returns")
    }

    /// Deletes parts.
    pub(super) async fn delete_parts(&self, ids: Vec<PartId>) -> Result<(), GalleryError> {
        let deleted = stream::iter(ids).map(|id| async move {
            self.store.delete(&self.bucket, &self.part_key(id)).await?;
            Ok::<_, GalleryError>(())
        });
        deleted.buffer_unordered(CONCURRENT).try_collect::<Vec<()>>().await.map(drop)
    }

    async fn current(&self) -> Result<(Manifest, Option<ETag>), GalleryError> {
        match self.store.get(&self.bucket, &self.manifest_key()).await {
            Ok(Object { bytes, etag }) => Ok((self.decoded(bytes).await?, Some(etag))),
            Err(CloudError::NotFound(_)) => Ok((Manifest::default(), None)),
            Err(other) => Err(other.into()),
        }
    }

    /// Reads the manifest if it has changed; `None` if it still has this tag.
    pub(super) async fn manifest_if_changed(
        &self,
        etag: Option<&ETag>,
    ) -> Result<Option<(Manifest, Option<ETag>)>, GalleryError> {
        let Some(etag) = etag else { return self.current().await.map(Some) };
        match self.store.get_if_changed(&self.bucket, &self.manifest_key(), etag).await {
            Ok(None) => Ok(None),
            Ok(Some(Object { bytes, etag })) => Ok(Some((self.decoded(bytes).await?, Some(etag)))),
            Err(CloudError::NotFound(_)) => Ok(Some((Manifest::default(), None))),
            Err(other) => Err(other.into()),
        }
    }

    async fn decoded(&self, bytes: bytes::Bytes) -> Result<Manifest, GalleryError> {
        let key = self.manifest_key();
        let decoded = unblocked(move || wire::from_bytes(&bytes)).await?;
        Ok(decoded.map_err(|e| CloudError::Invalid(format!("{key}: {e}")))?)
    }

    /// Reads a part.
    ///
    /// # Errors
    /// `NotFound` if it is gone, because there is a newer version.
    pub(super) async fn part(&self, manifest: &Manifest, id: PartId) -> Result<Part, GalleryError> {
        if id == PartId::SNAPSHOT {
            return Ok(manifest.snapshot.clone());
        }
        let key = self.part_key(id);
        let Object { bytes, .. } = self.store.get(&self.bucket, &key).await?;
        let part: Part = wire::from_bytes(&bytes).map_err(|e| CloudError::Invalid(format!("{key}: {e}")))?;
        if part.is_valid(manifest.dimension().unwrap_or(0)) {
            Ok(part)
        } else {
            Err(CloudError::Invalid(format!("{key}: it does not fit the manifest")).into())
        }
    }

    fn manifest_key(&self) -> String {
        format!("{}{MANIFEST}", self.prefix)
    }

    pub(super) fn part_key_prefix(&self) -> String {
        format!("{}/parts/", self.prefix)
    }

    fn part_key(&self, id: PartId) -> String {
        format!("{}{id}", self.part_key_prefix())
    }
}

/// Reads a gallery part by part, in the order of the names. It may change meanwhile: nobody is returned twice, and only
/// people who are added or removed meanwhile may be missing.
pub struct PartReader<'a> {
    gallery: &'a GalleryStore,
    manifest: Manifest,
    /// Position of the next part.
    next: usize,
    /// The last name that was returned.
    after: Option<String>,
}

impl PartReader<'_> {
    /// Returns the manifest by which the parts are read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the next people; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Part>, GalleryError> {
        while let Some(info) = self.manifest.parts.get(self.next) {
            let part = self.gallery.part(&self.manifest, info.id).await;
            let Some(mut part) = self.gallery.unless_newer(&self.manifest, part).await? else {
                self.manifest = self.gallery.manifest().await?;
                self.next = self.after.as_ref().map_or(0, |after| self.manifest.part_of(after));
                continue;
            };
            self.next += 1;
            if let Some(after) = &self.after {
                part.people.retain(|person| person.name > *after);
            }
            if let Some(last) = part.people.last() {
                self.after = Some(last.name.clone());
                return Ok(Some(part));
            }
        }
        Ok(None)
    }
}

/// Runs work on a thread for blocking work.
pub(super) async fn unblocked<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CloudError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| CloudError::Unavailable(e.to_string()))
}

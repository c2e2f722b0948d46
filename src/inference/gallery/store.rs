//! A gallery in the object store: a manifest, replaced by conditional puts so that no writer overwrites the change of
//! another, and parts. A part that is no longer in the manifest is deleted, so that nothing remains of a person who was
//! removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    change::{Change, Limits, Next},
    index_files::{IndexFiles, IndexPlace},
    manifest::{Manifest, PartId},
    part::Part,
    person::Person,
    refused::Refused,
};
use crate::{
    clock::now_ms,
    cloud::{CloudError, ETag, Object, ObjectStore, Precondition},
    inference::embeddings::index::IndexError,
    recognition::{GalleryName, ModelId},
    settings, wire,
};

/// Key of the default gallery's manifest in the state bucket.
pub const KEY: &str = "gallery/current";
/// Prefix of the keys of the other galleries, before their name.
pub(super) const NAMED: &str = "galleries/";
/// End of the key of a manifest.
pub(super) const MANIFEST: &str = "/current";
/// Numbers (f32) in the embeddings of one part: 256 KiB, so that few bytes move when a person is added.
const MAX_PART: usize = 64 << 10;
/// Parts that are read or written at the same time.
const CONCURRENT: usize = 16;
/// Attempts to write while others write at the same time. With the pauses below, they take some seconds.
const MAX_ATTEMPTS: u32 = 20;
const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(500);
/// Age from which a part that is in no manifest is deleted: its writer was killed. A writer that is alive takes less
/// time to replace the manifest.
const ORPHAN_AGE: Duration = Duration::from_secs(600);

/// Why the gallery was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The change is invalid; the message says what is allowed.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CloudError),
    /// The index of the gallery on this machine failed.
    #[error("the index of the gallery: {0}")]
    Index(#[from] IndexError),
}

impl From<Refused> for GalleryError {
    fn from(Refused(why): Refused) -> Self {
        Self::Refused(why)
    }
}

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
    store: Arc<dyn ObjectStore>,
    bucket: String,
    /// Prefix of the gallery's keys.
    prefix: String,
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
        Self { store, bucket, prefix, limits, index_files: IndexFiles::new(indexes, name.to_string()) }
    }

    /// Returns a gallery with parts of at most `numbers` numbers, for tests.
    #[cfg(test)]
    pub(super) fn with_max_part(mut self, numbers: usize) -> Self {
        self.limits.max_part = numbers;
        self
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

    /// Adds embeddings of `model` to a person, who is created if new. Returns the version and how many photos the
    /// person then has.
    pub async fn add(
        &self,
        name: &str,
        embeddings: Vec<Vec<f32>>,
        model: ModelId,
    ) -> Result<(u64, usize), GalleryError> {
        let manifest = self.add_people(vec![Person { name: name.to_owned(), embeddings }], model).await?;
        let part = match manifest.parts.get(manifest.part_of(name)) {
            Some(part) => self.part(&manifest, part.id).await?,
            None => None,
        };
        let person = part.and_then(|part| part.people.into_iter().find(|person| person.name == name));
        Ok((manifest.version, person.map_or(0, |person| person.embeddings.len())))
    }

    /// Adds embeddings of several people, all of `model`, in one version. If one is invalid, none is added. Returns the
    /// new manifest, or the current one if the gallery has all of them already.
    pub async fn add_people(&self, people: Vec<Person>, model: ModelId) -> Result<Manifest, GalleryError> {
        Ok(self.update(Change::Add(people, model)).await?.manifest)
    }

    /// Replaces everybody with `people`, embedded by `model`, whatever the gallery's model was. Returns the new
    /// manifest, or the current one if it is the same.
    pub async fn replace(&self, people: Vec<Person>, model: ModelId) -> Result<Manifest, GalleryError> {
        let update = self.update(Change::Replace(people, model)).await?;
        if update.written {
            let files = self.index_files.clone();
            unblocked(move || files.delete()).await??;
        }
        Ok(update.manifest)
    }

    /// Removes a person with all their embeddings, here and in the indexes of this machine, and returns the new
    /// manifest; `None` if nobody has that name.
    pub async fn remove(&self, name: &str) -> Result<Option<Manifest>, GalleryError> {
        let update = self.update(Change::Remove(name.to_owned())).await?;
        let (files, name) = (self.index_files.clone(), name.to_owned());
        unblocked(move || files.erase(&name)).await??;
        Ok(update.written.then_some(update.manifest))
    }

    /// Applies `change` to the newest version and writes the result, if there is one, on condition that nobody else has
    /// written since. Otherwise tries again.
    async fn update(&self, change: Change) -> Result<Update, GalleryError> {
        let change = Arc::new(change);
        let mut pause = MIN_BACKOFF;
        for _ in 0..MAX_ATTEMPTS {
            let (manifest, etag) = self.current().await?;
            if let Some(parts) = self.parts(&manifest, change.concerned(&manifest)).await? {
                let (change, limits, current) = (change.clone(), self.limits, manifest.clone());
                let next = unblocked(move || change.apply(&current, parts, limits)).await??;
                let Some(next) = next else { return Ok(Update { manifest, written: false }) };
                if self.write(&next, etag).await? {
                    self.delete_orphans(&next).await;
                    return Ok(Update { manifest: next.manifest, written: true });
                }
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(MAX_BACKOFF);
        }
        Err(CloudError::Conflict("others keep changing the gallery; try again".into()).into())
    }

    /// Reads parts; `None` if one is gone, because the manifest is no longer the newest.
    async fn parts(
        &self,
        manifest: &Manifest,
        positions: BTreeSet<usize>,
    ) -> Result<Option<BTreeMap<usize, Part>>, GalleryError> {
        let parts = stream::iter(positions).map(|at| async move {
            let part = self.part(manifest, manifest.parts[at].id).await?;
            Ok::<_, GalleryError>(part.map(|part| (at, part)))
        });
        let parts: Vec<_> = parts.buffer_unordered(CONCURRENT).try_collect().await?;
        Ok(parts.into_iter().collect())
    }

    /// Writes the new parts and then the manifest. Returns `false`, and leaves nothing, if another writer was faster.
    async fn write(&self, next: &Next, etag: Option<ETag>) -> Result<bool, GalleryError> {
        let written = stream::iter(0..next.written.len()).map(|at| async move {
            let (id, part) = &next.written[at];
            let bytes = wire::to_bytes(part).map_err(|error| GalleryError::Refused(error.to_string()))?;
            self.store.put(&self.bucket, &self.part_key(*id), bytes, Precondition::Absent).await?;
            Ok::<_, GalleryError>(())
        });
        let written = written.buffer_unordered(CONCURRENT).try_collect::<Vec<()>>().await;
        let result = match written {
            Ok(_) => {
                let bytes = wire::to_bytes(&next.manifest).map_err(|e| GalleryError::Refused(e.to_string()))?;
                let when = etag.map_or(Precondition::Absent, Precondition::Match);
                self.store.put(&self.bucket, &self.manifest_key(), bytes, when).await
            }
            Err(error) => {
                self.delete_parts(next.written.iter().map(|(id, _)| *id)).await;
                return Err(error);
            }
        };
        match result {
            Ok(_) => Ok(true),
            Err(CloudError::Conflict(_) | CloudError::NotFound(_)) => {
                self.delete_parts(next.written.iter().map(|(id, _)| *id)).await;
                Ok(false)
            }
            // The manifest may have been written nevertheless, so the parts stay. If not, they are orphans.
            Err(other) => Err(other.into()),
        }
    }

    /// Deletes the parts that are no longer in the manifest, also those of writers that were killed.
    async fn delete_orphans(&self, next: &Next) {
        self.delete_parts(next.obsolete.iter().copied()).await;
        let prefix = self.part_key_prefix();
        let listed = match self.store.list(&self.bucket, &prefix).await {
            Ok(listed) => listed,
            Err(error) => return tracing::warn!(%error, "the parts of the gallery could not be listed"),
        };
        let now = now_ms();
        let orphans = listed.into_iter().filter_map(|object| {
            let id = PartId(object.key.strip_prefix(&prefix)?.parse::<ulid::Ulid>().ok()?.0);
            let old = now.saturating_sub(id.created_ms()) > ORPHAN_AGE.as_millis() as u64;
            (old && next.manifest.parts.iter().all(|part| part.id != id)).then_some(id)
        });
        self.delete_parts(orphans.collect::<Vec<_>>()).await;
    }

    /// Deletes parts. What fails is deleted with the orphans of a later change.
    async fn delete_parts(&self, ids: impl IntoIterator<Item = PartId>) {
        let deleted = stream::iter(ids).for_each_concurrent(CONCURRENT, |id| async move {
            if let Err(error) = self.store.delete(&self.bucket, &self.part_key(id)).await {
                tracing::warn!(%error, part = %id, "an old part of the gallery could not be deleted yet");
            }
        });
        deleted.await;
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

    /// Reads a part; `None` if it is gone, because the manifest is no longer the newest.
    pub(super) async fn part(&self, manifest: &Manifest, id: PartId) -> Result<Option<Part>, GalleryError> {
        if id == PartId::SNAPSHOT {
            return Ok(Some(manifest.snapshot.clone()));
        }
        let key = self.part_key(id);
        match self.store.get(&self.bucket, &key).await {
            Ok(Object { bytes, .. }) => {
                let part = wire::from_bytes(&bytes).map_err(|e| CloudError::Invalid(format!("{key}: {e}")))?;
                Ok(Some(part))
            }
            Err(CloudError::NotFound(_)) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    fn manifest_key(&self) -> String {
        format!("{}{MANIFEST}", self.prefix)
    }

    fn part_key_prefix(&self) -> String {
        format!("{}/parts/", self.prefix)
    }

    fn part_key(&self, id: PartId) -> String {
        format!("{}{id}", self.part_key_prefix())
    }
}

/// The newest version after an update, and whether the update has written it.
struct Update {
    manifest: Manifest,
    written: bool,
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
            let Some(mut part) = self.gallery.part(&self.manifest, info.id).await? else {
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

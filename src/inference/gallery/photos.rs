//! The enrolled photos of a gallery one by one: added, found by their ids, listed in pages, moved and removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    change::Change,
    error::GalleryError,
    manifest::Manifest,
    part::Part,
    person::Person,
    photo_id::PhotoId,
    scan::{MAX_READS, Scan},
    store::{GalleryStore, unblocked},
    update::Update,
};
use crate::{cloud::CloudError, inference::embeddings::similarity::dot, recognition::ModelId};

/// What was added to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Version of the gallery.
    pub version: u64,
    /// How many photos the person has.
    pub photos: usize,
    /// The ids of the photos that were added, in their order. A photo that the person had already keeps its id.
    pub ids: Vec<PhotoId>,
}

/// An enrolled photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    /// Identifies it.
    pub id: PhotoId,
    /// The person.
    pub name: String,
    /// Its embedding, of unit length.
    pub embedding: Vec<f32>,
}

/// Some of the photos of a gallery, ordered by the names of their people.
#[derive(Clone, Debug, PartialEq)]
pub struct Photos {
    /// How many photos there are.
    pub total: usize,
    /// The photos.
    pub photos: Vec<Photo>,
}

impl GalleryStore {
    /// Adds embeddings of `model` to a person, who is created if new.
    ///
    /// # Errors
    /// `Refused` if the name or an embedding is invalid, or a limit is exceeded: then nothing is added.
    pub async fn add(&self, name: &str, embeddings: Vec<Vec<f32>>, model: ModelId) -> Result<Added, GalleryError> {
        let people = vec![Person::new(name, embeddings.clone())];
        let Update { manifest, mut parts, .. } = self.update(Change::Add(people, model)).await?;
        if parts.is_empty() {
            parts.extend(self.parts(&manifest, BTreeSet::from([manifest.part_of(name)])).await?.into_values());
        }
        let people = parts.into_iter().flat_map(|part| part.people);
        let known = people.filter(|person| person.name == name).flat_map(|person| person.embeddings);
        let known: Vec<Vec<f32>> = known.collect();
        let nearest = |embedding: &Vec<f32>| {
            let nearest = known.iter().max_by(|a, b| dot(a, embedding).total_cmp(&dot(b, embedding)));
            nearest.map(|stored| PhotoId::of(stored))
        };
        let ids = embeddings.iter().filter_map(nearest).collect();
        self.release_name(name).await?;
        Ok(Added { version: manifest.version, photos: known.len(), ids })
    }

    /// Returns a person; `None` if nobody with photos has that name.
    pub async fn person(&self, name: &str) -> Result<Option<Person>, GalleryError> {
        let (_, parts) = self.consistent(|manifest| [manifest.part_of(name)].into()).await?;
        Ok(parts.into_values().flat_map(|part| part.people).find(|person| person.name == name))
    }

    /// Returns up to `limit` photos after the first `skip`; only those of one person if `name` says so.
    pub async fn photos(&self, name: Option<&str>, skip: usize, limit: usize) -> Result<Photos, GalleryError> {
        if let Some(name) = name {
            let photos: Vec<Photo> = self.person(name).await?.into_iter().flat_map(photos_of).collect();
            let total = photos.len();
            return Ok(Photos { total, photos: photos.into_iter().skip(skip).take(limit).collect() });
        }
        let (manifest, parts) = self.consistent(|manifest| positions(manifest, skip, limit).1).await?;
        let (before, _) = positions(&manifest, skip, limit);
        let photos = parts.into_values().flat_map(|part| part.people).flat_map(photos_of);
        Ok(Photos { total: manifest.photos(), photos: photos.skip(skip - before).take(limit).collect() })
    }

    /// Finds a photo. Reads the whole gallery.
    pub async fn photo(&self, id: PhotoId) -> Result<Option<Photo>, GalleryError> {
        let mut scan = Scan::default();
        scan.read(self, photos_with(HashSet::from([id]))).await?;
        Ok(scan.found().next().cloned())
    }

    /// Removes photos, and people of whom none is left, here and in the indexes of this machine. Reads the whole gallery.
    /// Returns the newest manifest, and the photos that were there. Before any is removed, `announce` is told whose they
    /// are: once more if others rename these people meanwhile.
    ///
    /// # Errors
    /// Some photos could not be removed: a repeated call tries again. Or `announce` has failed.
    pub async fn remove_photos<E: From<GalleryError>>(
        &self,
        ids: &HashSet<PhotoId>,
        announce: impl AsyncFn(Vec<String>) -> Result<(), E>,
    ) -> Result<(Manifest, Vec<Photo>), E> {
        let mut scan = Scan::default();
        let mut removed: Vec<Photo> = Vec::new();
        for _ in 0..MAX_READS {
            let mut manifest = scan.read(self, photos_with(ids.clone())).await?;
            let mut found: BTreeMap<String, Vec<Photo>> = BTreeMap::new();
            for photo in scan.found() {
                found.entry(photo.name.clone()).or_default().push(photo.clone());
            }
            if found.is_empty() && removed.is_empty() {
                self.finish_earlier_removal(&manifest).await?;
            }
            if !found.is_empty() {
                announce(found.keys().cloned().collect()).await?;
            }
            // Whose photos others have given to somebody else since they were read has them under another name.
            let mut all = true;
            for (name, photos) in found {
                let gone: HashSet<PhotoId> = photos.iter().map(|photo| photo.id).collect();
                let update = self.remove_from(&name, Change::RemovePhotos(name.clone(), gone.clone()), gone).await?;
                all &= photos.iter().all(|photo| update.removed.contains(&photo.id));
                removed.extend(photos.into_iter().filter(|photo| update.removed.contains(&photo.id)));
                manifest = update.manifest;
            }
            if all {
                return Ok((manifest, removed));
            }
        }
        Err(GalleryError::from(CloudError::Conflict("others keep changing the gallery; try again".into())).into())
    }

    /// Deletes what a removal has left that failed after its change was applied. Nothing tells any more whom it was
    /// about, so every index is deleted that may contain the person.
    async fn finish_earlier_removal(&self, manifest: &Manifest) -> Result<(), GalleryError> {
        let (files, version) = (self.index_files().clone(), manifest.version);
        unblocked(move || files.delete_older(version)).await??;
        self.delete_orphans().await
    }

    /// Removes a person as [`Self::forget`] does, and returns the new manifest; `None` if nobody has that name, not even
    /// without photos.
    ///
    /// # Errors
    /// Same as [`Self::forget`].
    pub async fn remove(&self, name: &str) -> Result<Option<Manifest>, GalleryError> {
        let reserved = self.release_name(name).await?;
        let (manifest, photos) = self.remove_all_of(name).await?;
        Ok((photos > 0 || reserved).then_some(manifest))
    }

    /// Removes a person with all their embeddings and kept photos, here and in the indexes of this machine. Returns the
    /// newest manifest, which does not contain the person, and how many of their photos were removed: none if nobody has
    /// that name.
    ///
    /// # Errors
    /// The person could not be removed, or could not be erased everywhere: then a repeated call tries again.
    pub async fn forget(&self, name: &str) -> Result<(Manifest, usize), GalleryError> {
        self.release_name(name).await?;
        self.remove_all_of(name).await
    }

    /// Removes all photos of a person, but not their name if that is reserved. Returns the newest manifest, and how many
    /// photos there were.
    ///
    /// # Errors
    /// The photos could not be removed: a repeated call tries again.
    async fn remove_all_of(&self, name: &str) -> Result<(Manifest, usize), GalleryError> {
        let person = self.person(name).await?;
        // First, because the photos tell whose faces they are.
        if let Some(person) = &person {
            self.forget_rejected(person.embeddings.clone()).await?;
        }
        let known = person.into_iter().flat_map(photos_of).map(|photo| photo.id).collect();
        let update = self.remove_from(name, Change::Remove(name.to_owned()), known).await?;
        Ok((update.manifest, update.removed.len()))
    }

    /// Gives the photos of one person to another, who is created if new. Photos keep their ids. Returns the newest
    /// manifest; `None` if nobody has the first name.
    ///
    /// # Errors
    /// `Refused` for a name that nobody can have, or if the other person would have too many photos.
    pub async fn rename(&self, name: &str, to: &str) -> Result<Option<Manifest>, GalleryError> {
        let reserved = self.replace_reserved_name(name, to).await?;
        let mut update = self.update(Change::Rename { from: name.to_owned(), to: to.to_owned() }).await?;
        let (files, name) = (self.index_files().clone(), name.to_owned());
        unblocked(move || files.erase(&name)).await??;
        self.finish(&mut update).await?;
        if update.written {
            self.release_name(to).await?;
        }
        Ok((update.written || reserved).then_some(update.manifest))
    }

    /// Removes everybody with all photos. Returns the newest manifest, and the numbers of people, including those without
    /// photos, and of photos that were there.
    ///
    /// # Errors
    /// Something could not be removed: a repeated call tries again.
    pub async fn clear(&self) -> Result<(Manifest, usize, usize), GalleryError> {
        // Afterwards, nothing tells the ids of photos whose deletion was interrupted.
        self.kept.delete_all().await?;
        let mut update = self.update(Change::Clear).await?;
        let names = self.release_all_names().await?;
        self.forget_files().await?;
        self.finish(&mut update).await?;
        Ok((update.manifest, update.people_before + names, update.photos_before))
    }

    /// Deletes the indexes of this machine and every kept photo.
    pub(super) async fn forget_files(&self) -> Result<(), GalleryError> {
        let files = self.index_files().clone();
        unblocked(move || files.delete()).await??;
        Ok(self.kept.delete_all().await?)
    }

    /// Returns a photo as it was enrolled; `None` if it is not in the gallery or was not kept.
    pub async fn kept_photo(&self, id: PhotoId) -> Result<Option<Bytes>, GalleryError> {
        Ok(self.kept.get(id).await?)
    }

    /// Keeps a photo of a person as it was enrolled. Returns `false`, and keeps nothing, if it has been removed since.
    pub async fn keep_photo(&self, name: &str, id: PhotoId, photo: Bytes) -> Result<bool, GalleryError> {
        self.kept.put(id, photo).await?;
        // Whoever removes the photo deletes it after the gallery has changed, or this sees the change.
        let of_person = self.person(name).await?.is_some_and(|person| photos_of(person).any(|photo| photo.id == id));
        // Others may have renamed the person since.
        let still = of_person || self.photo(id).await?.is_some();
        if !still {
            self.kept.delete([id]).await?;
        }
        Ok(still)
    }

    /// Applies a change that removes photos of one person, of which some are known, and deletes them wherever they are
    /// kept: the known ones first, so that a repeated call finds them again if that fails.
    async fn remove_from(&self, name: &str, change: Change, known: HashSet<PhotoId>) -> Result<Update, GalleryError> {
        self.kept.delete(known).await?;
        let mut update = self.update(change).await?;
        let (files, name) = (self.index_files().clone(), name.to_owned());
        unblocked(move || files.erase(&name)).await??;
        self.kept.delete(update.removed.clone()).await?;
        self.finish(&mut update).await?;
        Ok(update)
    }

    /// Makes sure that the parts are deleted which an update has replaced. If it has written nothing, that may be because
    /// it repeats one that has failed after its manifest was written.
    ///
    /// # Errors
    /// Some are left: a repeated call tries again.
    pub(super) async fn finish(&self, update: &mut Update) -> Result<(), GalleryError> {
        if update.written { std::mem::replace(&mut update.deleted, Ok(())) } else { self.delete_orphans().await }
    }

    /// Reads the parts at some positions of the current version, again if there is a newer one meanwhile.
    async fn consistent(
        &self,
        positions: impl Fn(&Manifest) -> BTreeSet<usize> + Send,
    ) -> Result<(Manifest, BTreeMap<usize, Part>), GalleryError> {
        for _ in 0..MAX_READS {
            let manifest = self.manifest().await?;
            let parts = self.parts(&manifest, positions(&manifest)).await;
            if let Some(parts) = self.unless_newer(&manifest, parts).await? {
                return Ok((manifest, parts));
            }
        }
        Err(CloudError::Unavailable("others keep changing the gallery".into()).into())
    }
}

/// Returns the photos of a person in the order of the gallery.
fn photos_of(person: Person) -> impl Iterator<Item = Photo> {
    let Person { name, embeddings, .. } = person;
    embeddings.into_iter().map(move |embedding| Photo { id: PhotoId::of(&embedding), name: name.clone(), embedding })
}

/// Returns a function that returns those photos of a part that have one of these ids.
fn photos_with(ids: HashSet<PhotoId>) -> impl Fn(Part) -> Vec<Photo> + Clone + Send + 'static {
    let ids = Arc::new(ids);
    move |part| part.people.into_iter().flat_map(photos_of).filter(|photo| ids.contains(&photo.id)).collect()
}

/// Returns the positions of the parts that contain some of the photos, and how many photos come before these parts.
fn positions(manifest: &Manifest, skip: usize, limit: usize) -> (usize, BTreeSet<usize>) {
    let (mut position, mut before, mut wanted) = (0, skip, BTreeSet::new());
    for (at, part) in manifest.parts.iter().enumerate() {
        let end = position + part.photos as usize;
        if position < skip.saturating_add(limit) && skip < end {
            before = if wanted.is_empty() { position } else { before };
            wanted.insert(at);
        }
        position = end;
    }
    (before, wanted)
}

impl Part {
    /// Removes photos of a person, in place, and the person if none is left. Returns those that were there.
    pub(super) fn remove_photos(&mut self, name: &str, ids: &HashSet<PhotoId>) -> Vec<PhotoId> {
        let Ok(at) = self.people.binary_search_by(|person| person.name.as_str().cmp(name)) else { return Vec::new() };
        let mut removed = Vec::new();
        self.people[at].embeddings.retain(|embedding| {
            let id = PhotoId::of(embedding);
            let gone = ids.contains(&id);
            removed.extend(gone.then_some(id));
            !gone
        });
        if self.people[at].embeddings.is_empty() {
            self.people.remove(at);
        }
        removed
    }

    /// Removes a person, in place, and returns them.
    pub(super) fn take(&mut self, name: &str) -> Option<Person> {
        let at = self.people.binary_search_by(|person| person.name.as_str().cmp(name)).ok()?;
        Some(self.people.remove(at))
    }

    /// Adds a person, in place, or their photos to whoever has the name already. Returns how many photos they then have.
    pub(super) fn merge(&mut self, person: Person) -> usize {
        match self.people.binary_search_by(|known| known.name.cmp(&person.name)) {
            Ok(at) => {
                let known = &mut self.people[at].embeddings;
                let new = person.embeddings.into_iter().filter(|embedding| !known.contains(embedding));
                let new: Vec<_> = new.collect();
                known.extend(new);
                let photos = known.len();
                self.merge_rejected(at, person.rejected);
                photos
            }
            Err(at) => {
                let photos = person.embeddings.len();
                self.people.insert(at, person);
                photos
            }
        }
    }
}

//! Faces that are not a person's, though they were given the name: what is stored, and when it is forgotten.

use super::{
    change::{Change, SAME_PHOTO},
    error::GalleryError,
    part::Part,
    photo_id::PhotoId,
    store::{GalleryStore, unblocked},
};
use crate::{inference::embeddings::similarity::dot, recognition::ModelId};

/// Cosine similarity from which a rejected face is erased with a person: low, because a face that is erased needlessly is
/// rejected again with a click, and one that is not would be left of the person. Two different people of LFW have a mean of
/// 0.09 and a standard deviation of 0.09 with SFace (`docs/accuracy.md`); two photos of one person, a mean of 0.66.
const PERHAPS_THE_SAME: f32 = 0.3;

/// What a rejection has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Version of the gallery.
    pub version: u64,
    /// How many rejected faces are known of the person.
    pub rejected: usize,
    /// How many photos of the person were removed, because they show the face.
    pub removed: usize,
    /// How many photos the person has.
    pub photos: usize,
}

impl GalleryStore {
    /// Notes that a face, embedded by `model`, is not a person's: it is not given the name again until a photo of the
    /// person is more similar to it than this face is. If it is in a photo of the person, that photo is removed; a person
    /// without another one as well. `None` if nobody with photos has that name.
    ///
    /// # Errors
    /// `Refused` if the embedding does not fit the gallery. After other errors, a repeated call tries again.
    pub async fn reject(&self, name: &str, face: Vec<f32>, model: ModelId) -> Result<Option<Rejection>, GalleryError> {
        if self.person(name).await?.is_none() {
            return Ok(None);
        }
        let mut update = self.update(Change::Reject(name.to_owned(), face, model)).await?;
        if !update.removed.is_empty() {
            let (files, erased) = (self.index_files().clone(), name.to_owned());
            unblocked(move || files.erase(&erased)).await??;
            // Photos that this leaves are orphans.
            self.kept.delete(update.removed.clone()).await?;
        }
        self.finish(&mut update).await?;
        let (removed, version) = (update.removed.len(), update.manifest.version);
        let person = self.person(name).await?;
        let (rejected, photos) = person.map_or((0, 0), |person| (person.rejected.len(), person.embeddings.len()));
        Ok(Some(Rejection { version, rejected, removed, photos }))
    }

    /// Erases, of everybody, the rejected faces that may be those of a person with these photos.
    ///
    /// # Errors
    /// Some may be left: a repeated call tries again.
    pub(super) async fn forget_rejected(&self, photos: Vec<Vec<f32>>) -> Result<(), GalleryError> {
        let mut update = self.update(Change::ForgetRejected(photos)).await?;
        if update.written { self.finish(&mut update).await } else { Ok(()) }
    }
}

impl Part {
    /// Notes that a face is not a person's, in place, and removes the photos that show it, and the person if none is left.
    /// Returns the photos that were removed; `None` if nothing has changed.
    pub(super) fn reject(&mut self, name: &str, face: Vec<f32>, same_photo: f32) -> Option<Vec<PhotoId>> {
        let at = self.people.binary_search_by(|person| person.name.as_str().cmp(name)).ok()?;
        let person = &mut self.people[at];
        let shown = person.embeddings.iter().filter(|photo| dot(photo, &face) > same_photo);
        let shown: Vec<PhotoId> = shown.map(|photo| PhotoId::of(photo)).collect();
        person.embeddings.retain(|photo| dot(photo, &face) <= same_photo);
        let changed = person.reject(face, same_photo) || !shown.is_empty();
        if person.embeddings.is_empty() {
            self.people.remove(at);
        }
        changed.then_some(shown)
    }

    /// Forgets the rejected faces that may be those of a person with these photos, in place. Returns whether there were any.
    pub(super) fn forget_rejected(&mut self, photos: &[Vec<f32>]) -> bool {
        let mut changed = false;
        for person in &mut self.people {
            let before = person.rejected.len();
            person.rejected.retain(|face| photos.iter().all(|photo| dot(photo, face) < PERHAPS_THE_SAME));
            changed |= person.rejected.len() < before;
        }
        changed
    }

    /// Adds the rejected faces of a person to those of another, in place.
    pub(super) fn merge_rejected(&mut self, at: usize, faces: Vec<Vec<f32>>) {
        let person = &mut self.people[at];
        let photos = std::mem::take(&mut person.embeddings);
        for photo in &photos {
            person.accept(photo, SAME_PHOTO);
        }
        person.embeddings = photos;
        for face in faces {
            person.reject(face, SAME_PHOTO);
        }
    }
}

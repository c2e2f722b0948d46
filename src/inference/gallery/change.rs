//! What a change makes of a gallery, as a function of the parts that it concerns.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    manifest::{Manifest, PartId, PartInfo},
    part::{Part, Rules, too_many_photos},
    person::{Person, check_name},
    photo_id::PhotoId,
    refused::{Refused, refused},
    search::Gallery,
};
use crate::recognition::ModelId;

/// Cosine similarity above which two embeddings are of the same photo: they differ by rounding only. The similarity of
/// different photos of a person is far below.
pub const SAME_PHOTO: f32 = 0.9999;
/// The same, if the embeddings are of two variants of a model. Measured with SFace in fp32 and int8 on the largest
/// faces of 440 photos of LFW: at least 0.986 for the same photo, at most 0.925 for different ones.
const SAME_PHOTO_OF_VARIANTS: f32 = 0.97;

/// How large a gallery and its parts may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub max_people: usize,
    /// Of one person.
    pub max_photos: usize,
    /// Numbers (f32) in the embeddings of one part, unless one person has more.
    pub max_part: usize,
}

/// A change of a gallery.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Adds embeddings of new or known people, all of one model.
    Add(Vec<Person>, ModelId),
    /// Replaces everybody. Nothing of the gallery is read, so this repairs one that is damaged.
    Replace(Vec<Person>, ModelId),
    /// Removes a person.
    Remove(String),
    /// Removes photos of a person, and the person if none is left.
    RemovePhotos(String, HashSet<PhotoId>),
    /// Notes that a face, embedded by the model, is not a person's. A photo of the person with that face is removed.
    Reject(String, Vec<f32>, ModelId),
    /// Forgets the rejected faces of everybody that are about as similar to one of these photos as one person's are.
    ForgetRejected(Vec<Vec<f32>>),
    /// Gives the photos of one person to another.
    Rename {
        /// Whose photos they are.
        from: String,
        /// Whose photos they will be.
        to: String,
    },
    /// Removes everybody. No part of the gallery is read.
    Clear,
}

/// The next version of a gallery.
#[derive(Debug)]
pub(super) struct Next {
    pub manifest: Manifest,
    /// The parts that are new in it.
    pub written: Vec<(PartId, Part)>,
    /// The parts that are no longer in it.
    pub obsolete: Vec<PartId>,
    /// The photos that were removed one by one, or with their person.
    pub removed: Vec<PhotoId>,
}

impl Change {
    /// Returns the positions of the parts that the change concerns.
    pub fn concerned(&self, manifest: &Manifest) -> BTreeSet<usize> {
        match self {
            _ if manifest.parts.is_empty() => BTreeSet::new(),
            Self::Add(people, _) => people.iter().map(|person| manifest.part_of(&person.name)).collect(),
            Self::Replace(..) | Self::Clear => BTreeSet::new(),
            Self::Remove(name) | Self::RemovePhotos(name, _) | Self::Reject(name, ..) => {
                BTreeSet::from([manifest.part_of(name)])
            }
            Self::ForgetRejected(_) => manifest.positions_with_rejected(),
            Self::Rename { from, to } => BTreeSet::from([manifest.part_of(from), manifest.part_of(to)]),
        }
    }

    /// Returns the next version, given the parts at the positions that the change concerns; `None` if it would be the
    /// same.
    ///
    /// # Errors
    /// The gallery contains embeddings of a model that cannot be compared, a name or an embedding is invalid, or a
    /// limit is exceeded.
    pub fn apply(
        &self,
        manifest: &Manifest,
        mut parts: BTreeMap<usize, Part>,
        limits: Limits,
    ) -> Result<Option<Next>, Refused> {
        match self {
            Self::Add(people, model) => {
                manifest.check_model(model)?;
                let mut rules = rules(manifest, model, limits);
                let mut changed = BTreeMap::new();
                for (at, people) in by_part(people, manifest) {
                    let mut part = parts.remove(&at).unwrap_or_default();
                    if part.add(&people, &mut rules)? {
                        changed.insert(at, part);
                    }
                }
                let model = manifest.model.as_ref().unwrap_or(model);
                let next = next(manifest, changed, Some(model.clone()), rules.dimension, limits);
                next.map(|next| next.within(limits)).transpose()
            }
            Self::Replace(people, model) => {
                let empty = Manifest { version: manifest.version, ..Manifest::default() };
                let add = Self::Add(people.clone(), model.clone());
                let next = add.apply(&empty, BTreeMap::new(), limits)?;
                Ok(next.map(|next| Next { obsolete: stored(&manifest.parts), ..next }))
            }
            Self::Remove(name) => {
                let at = manifest.part_of(name);
                let Some(mut part) = parts.remove(&at) else { return Ok(None) };
                let Some(person) = part.take(name) else { return Ok(None) };
                let removed = person.embeddings.iter().map(|embedding| PhotoId::of(embedding)).collect();
                let changed = BTreeMap::from([(at, part)]);
                let next = next(manifest, changed, manifest.model.clone(), manifest.dimension(), limits);
                Ok(next.map(|next| Next { removed, ..next }))
            }
            Self::RemovePhotos(name, ids) => {
                let at = manifest.part_of(name);
                let Some(mut part) = parts.remove(&at) else { return Ok(None) };
                let removed = part.remove_photos(name, ids);
                if removed.is_empty() {
                    return Ok(None);
                }
                let changed = BTreeMap::from([(at, part)]);
                let next = next(manifest, changed, manifest.model.clone(), manifest.dimension(), limits);
                Ok(next.map(|next| Next { removed, ..next }))
            }
            Self::Reject(name, face, model) => {
                manifest.check_model(model)?;
                let mut rules = rules(manifest, model, limits);
                let face = rules.checked(name, face)?;
                let at = manifest.part_of(name);
                let Some(mut part) = parts.remove(&at) else { return Ok(None) };
                let Some(removed) = part.reject(name, face, rules.same_photo) else { return Ok(None) };
                let changed = BTreeMap::from([(at, part)]);
                let next = next(manifest, changed, manifest.model.clone(), manifest.dimension(), limits);
                Ok(next.map(|next| Next { removed, ..next }))
            }
            Self::ForgetRejected(photos) => {
                parts.retain(|_, part| part.forget_rejected(photos));
                Ok(next(manifest, parts, manifest.model.clone(), manifest.dimension(), limits))
            }
            Self::Rename { from, to } => {
                check_name(to)?;
                let person = parts.get_mut(&manifest.part_of(from)).and_then(|part| part.take(from));
                let Some(person) = person else { return Ok(None) };
                let renamed = Person { name: to.clone(), ..person };
                let photos = parts.entry(manifest.part_of(to)).or_default().merge(renamed);
                if photos > limits.max_photos {
                    return Err(too_many_photos(to, photos, limits.max_photos));
                }
                Ok(next(manifest, parts, manifest.model.clone(), manifest.dimension(), limits))
            }
            Self::Clear if manifest.parts.is_empty() => Ok(None),
            Self::Clear => {
                let empty = Manifest { version: manifest.version + 1, ..Manifest::default() };
                let obsolete = stored(&manifest.parts);
                Ok(Some(Next { manifest: empty, written: Vec::new(), obsolete, removed: Vec::new() }))
            }
        }
    }
}

/// Returns a gallery of these people, for as long as it is in memory.
///
/// # Errors
/// A name or an embedding is invalid.
pub fn in_memory(people: Vec<Person>, model: &ModelId) -> Result<Gallery, Refused> {
    let limits = Limits { max_people: usize::MAX, max_photos: usize::MAX, max_part: usize::MAX };
    let next = Change::Add(people, model.clone()).apply(&Manifest::default(), BTreeMap::new(), limits)?;
    let people: Vec<Person> =
        next.into_iter().flat_map(|next| next.written).flat_map(|(_, part)| part.people).collect();
    Ok(Gallery::new(1, &people, Some(model.clone())))
}

/// Returns the rules for embeddings of `model` that are added to a gallery.
fn rules(manifest: &Manifest, model: &ModelId, limits: Limits) -> Rules {
    let one_variant = manifest.parts.is_empty() || manifest.model.as_ref() == Some(model);
    Rules {
        dimension: manifest.dimension(),
        max_photos: limits.max_photos,
        same_photo: if one_variant { SAME_PHOTO } else { SAME_PHOTO_OF_VARIANTS },
    }
}

/// Groups people by the position of their part.
fn by_part(people: &[Person], manifest: &Manifest) -> BTreeMap<usize, Vec<Person>> {
    let mut by_part: BTreeMap<usize, Vec<Person>> = BTreeMap::new();
    for person in people {
        by_part.entry(manifest.part_of(&person.name)).or_default().push(person.clone());
    }
    by_part
}

/// Returns the version in which the changed parts take the place of those at their positions; `None` if there are none.
fn next(
    manifest: &Manifest,
    changed: BTreeMap<usize, Part>,
    model: Option<ModelId>,
    dimension: Option<usize>,
    limits: Limits,
) -> Option<Next> {
    if changed.is_empty() {
        return None;
    }
    let max = (limits.max_part / dimension.unwrap_or(1)).max(1);
    let version = manifest.version + 1;
    let (mut parts, mut written, mut obsolete) = (Vec::new(), Vec::new(), Vec::new());
    let mut with_rejected = manifest.with_rejected.clone();
    let mut changed = changed.into_iter().peekable();
    for at in 0..manifest.parts.len().max(1) {
        let old = manifest.parts.get(at);
        let Some((_, part)) = changed.next_if(|(position, _)| *position == at) else {
            parts.extend(old.cloned());
            continue;
        };
        obsolete.extend(old.cloned());
        old.map(|old| with_rejected.remove(&old.id));
        for part in part.split(max) {
            let id = PartId::new(version);
            parts.push(PartInfo::of(id, &part));
            with_rejected.extend(part.has_rejected().then_some(id));
            written.push((id, part));
        }
    }
    let model = model.filter(|_| !parts.is_empty());
    let dimension = dimension.filter(|_| !parts.is_empty()).unwrap_or(0) as u32;
    let manifest = Manifest { version, model, dimension, parts, with_rejected, snapshot: Part::default() };
    Some(Next { manifest, written, obsolete: stored(&obsolete), removed: Vec::new() })
}

/// Returns the ids of parts that are objects.
fn stored(parts: &[PartInfo]) -> Vec<PartId> {
    parts.iter().map(|part| part.id).filter(|id| *id != PartId::SNAPSHOT).collect()
}

impl Next {
    fn within(self, limits: Limits) -> Result<Self, Refused> {
        let (count, max) = (self.manifest.people(), limits.max_people);
        if count > max {
            return Err(refused(format!(
                "the gallery would hold {count} people; at most {max} are kept (gallery.max_people)"
            )));
        }
        Ok(self)
    }
}

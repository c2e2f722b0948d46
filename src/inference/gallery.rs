//! The gallery of known people: names, embeddings, and the search for the nearest.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::vision::similarity::{dot, normalise};
use crate::{
    recognition::{ModelId, NO_FACE, UNKNOWN},
    unicode::is_deceptive,
    wire::{Body, Wire, WireError},
};

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Cosine similarity above which two embeddings are of the same photo: they differ by rounding only. The similarity of
/// different photos of a person is far below.
const SAME_PHOTO: f32 = 0.9999;
/// The same, if the embeddings are of two variants of a model. Measured with SFace in fp32 and int8 on the largest
/// faces of 440 photos of LFW: at least 0.986 for the same photo, at most 0.925 for different ones.
const SAME_PHOTO_OF_VARIANTS: f32 = 0.97;

/// What to do if embeddings do not fit the gallery.
const REMEDY: &str = "enrol again (rollcall enroll --replace), import embeddings of the model in use (rollcall gallery \
                      import --replace), or set recognition.embedder to the gallery's model";

/// A person's name and the embeddings (unit length) of their photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// The person's name; see [`check_name`].
    pub name: String,
    /// One per photo, of unit length.
    pub embeddings: Vec<Vec<f32>>,
}

/// One version of the gallery. It is immutable: [`Gallery::with`] and [`Gallery::without`] return the next version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Gallery {
    /// Increases by one with each change; 0 is the empty gallery before the first.
    pub version: u64,
    /// Sorted by name; names are unique.
    pub people: Vec<Person>,
    /// The model of the first embedding; the others are of models that can be compared with it. `None` if there are no
    /// embeddings, or if the release that wrote the gallery did not record the model.
    pub model: Option<ModelId>,
    /// Built by the first search.
    #[serde(skip)]
    index: OnceLock<Index>,
}

impl Wire for Gallery {
    const VERSION: u8 = 2; // 1 had no model

    fn from_earlier(version: u8, body: Body<'_>) -> Option<Result<Self, WireError>> {
        #[derive(Deserialize)]
        struct First {
            version: u64,
            people: Vec<Person>,
        }
        (version == 1).then(|| body.decode().map(|First { version, people }| Self::new(version, people, None)))
    }
}

impl PartialEq for Gallery {
    fn eq(&self, other: &Self) -> bool {
        (self.version, &self.people, &self.model) == (other.version, &other.people, &other.model)
    }
}

/// All embeddings in one block of memory, row by row.
#[derive(Clone, Debug, Default)]
struct Index {
    rows: Vec<f32>,
    /// Index of each row's person.
    owners: Vec<u32>,
}

/// A change was rejected, or a search is impossible; the message says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

fn refused(why: impl Into<String>) -> Refused {
    Refused(why.into())
}

impl Gallery {
    /// Creates a version of the gallery. `people` must be sorted by name, and names unique.
    pub fn new(version: u64, people: Vec<Person>, model: Option<ModelId>) -> Self {
        Self { version, people, model, index: OnceLock::new() }
    }

    /// Checks that embeddings of `model` can be compared with those of the gallery. If the gallery's model was not
    /// recorded, they are assumed to be.
    ///
    /// # Errors
    /// They cannot be compared; the message names both models and says what to do.
    pub fn check_model(&self, model: &ModelId) -> Result<(), Refused> {
        match &self.model {
            Some(own) if !own.is_comparable_to(model) => Err(refused(format!(
                "the gallery contains embeddings of the model {own}, which cannot be compared with those of {model}: \
                 {REMEDY}"
            ))),
            _ => Ok(()),
        }
    }

    /// Returns the length of the embeddings; `None` if there are none.
    fn dimension(&self) -> Option<usize> {
        self.people.iter().flat_map(|p| &p.embeddings).next().map(Vec::len)
    }

    /// Returns the person with the photo most similar to `embedding` (of unit length), and the cosine similarity, -1
    /// to 1. `None` if the gallery is empty.
    ///
    /// # Errors
    /// The embeddings of the gallery have a different length, because they come from a different model.
    pub fn nearest(&self, embedding: &[f32]) -> Result<Option<(&str, f32)>, Refused> {
        let index = self.index();
        let Some(dimension) = self.dimension() else { return Ok(None) };
        check_dimension(dimension, embedding.len())?;
        let similarities = index.rows.chunks_exact(dimension).map(|row| dot(row, embedding));
        let best = similarities.zip(&index.owners).max_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(best.map(|(similarity, &owner)| (self.people[owner as usize].name.as_str(), similarity.clamp(-1.0, 1.0))))
    }

    /// Builds the index, so that the first search is as fast as the next.
    pub(super) fn warm(&self) {
        self.index();
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| {
            let mut index = Index::default();
            for (owner, person) in self.people.iter().enumerate() {
                for embedding in &person.embeddings {
                    index.rows.extend_from_slice(embedding);
                    index.owners.push(owner as u32);
                }
            }
            index
        })
    }

    /// Returns the next version, with more photos of new or known people, embedded by `model`; `None` if it has all of
    /// them already.
    ///
    /// # Errors
    /// The gallery contains embeddings of a model that cannot be compared with `model`, a name or an embedding is
    /// invalid, or a limit is exceeded. Then nothing is added.
    pub fn with(
        &self,
        people: &[Person],
        model: &ModelId,
        max_people: usize,
        max_photos: usize,
    ) -> Result<Option<Self>, Refused> {
        self.check_model(model)?;
        let one_variant = self.people.is_empty() || self.model.as_ref() == Some(model);
        let same_photo = if one_variant { SAME_PHOTO } else { SAME_PHOTO_OF_VARIANTS };
        let mut all = self.people.clone();
        let mut dimension = self.dimension();
        let mut changed = false;
        for new in people {
            check_name(&new.name)?;
            if new.embeddings.is_empty() {
                return Err(refused(format!("{}: no embedding given", new.name)));
            }
            let at = all.binary_search_by(|p| p.name.cmp(&new.name)).unwrap_or_else(|at| {
                all.insert(at, Person { name: new.name.clone(), embeddings: Vec::new() });
                at
            });
            let known = &mut all[at].embeddings;
            for embedding in &new.embeddings {
                check_dimension(*dimension.get_or_insert(embedding.len()), embedding.len())?;
                let mut embedding = embedding.clone();
                if !normalise(&mut embedding) {
                    return Err(refused(format!("{}: an embedding is zero or not finite", new.name)));
                }
                if known.iter().all(|k| dot(k, &embedding) <= same_photo) {
                    known.push(embedding);
                    changed = true;
                }
            }
            if known.len() > max_photos {
                let (name, count) = (&new.name, known.len());
                return Err(refused(format!(
                    "{name} would have {count} photos; at most {max_photos} are kept (gallery.max_photos)"
                )));
            }
        }
        if all.len() > max_people {
            let count = all.len();
            return Err(refused(format!(
                "the gallery would hold {count} people; at most {max_people} are kept (gallery.max_people)"
            )));
        }
        let model = self.model.as_ref().unwrap_or(model).clone();
        Ok(changed.then(|| Self::new(self.version + 1, all, Some(model))))
    }

    /// Returns the next version, without a person; `None` if nobody has that name.
    pub fn without(&self, name: &str) -> Option<Self> {
        let at = self.people.binary_search_by(|p| p.name.as_str().cmp(name)).ok()?;
        let mut people = self.people.clone();
        people.remove(at);
        let model = self.model.clone().filter(|_| !people.is_empty());
        Some(Self::new(self.version + 1, people, model))
    }
}

/// Checks that a person may have this name.
///
/// # Errors
/// The name is empty, too long, a path, or a label that has another meaning.
pub fn check_name(name: &str) -> Result<(), Refused> {
    let problem = if name.trim().is_empty() {
        "is empty"
    } else if name.chars().count() > MAX_NAME {
        "is too long"
    } else if name.trim() != name {
        "begins or ends with white space"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.chars().any(is_deceptive) {
        "has a bidirectional control or a line separator"
    } else if name.contains('/') {
        "has a slash"
    } else if [".", ".."].contains(&name) {
        "is the name of a folder"
    } else if [UNKNOWN, NO_FACE].iter().any(|label| label.eq_ignore_ascii_case(name)) {
        "is a label with another meaning"
    } else {
        return Ok(());
    };
    Err(refused(format!(
        "the name {name:?} {problem}; a name has 1 to {MAX_NAME} characters, no control character, no slash, and is \
         not \"{UNKNOWN}\" or \"{NO_FACE}\""
    )))
}

/// Checks that an embedding is as long as those of the gallery.
fn check_dimension(gallery: usize, given: usize) -> Result<(), Refused> {
    if gallery == given && given > 0 {
        return Ok(());
    }
    Err(refused(format!(
        "the embedding has {given} numbers, but those of the gallery have {gallery}, so they come from different \
         models: {REMEDY}"
    )))
}

#[cfg(test)]
mod tests;

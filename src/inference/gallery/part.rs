//! One part of a gallery: the people between two names, in one object.

use serde::{Deserialize, Serialize, Serializer};

use super::{
    person::{Person, check_name},
    refused::{Refused, check_dimension, refused},
};
use crate::{
    inference::embeddings::similarity::{dot, normalise},
    wire::{Body, Wire, WireError},
};

/// What is allowed and what counts as the same photo, for one change of a part.
pub(super) struct Rules {
    /// Length of the gallery's embeddings; that of the first one that is added if there are none.
    pub dimension: Option<usize>,
    /// Most photos of a person.
    pub max_photos: usize,
    /// Cosine similarity above which two embeddings are of the same photo.
    pub same_photo: f32,
}

impl Rules {
    /// Returns an embedding of a person with unit length.
    ///
    /// # Errors
    /// It does not fit the gallery, or has no direction.
    pub(super) fn checked(&mut self, name: &str, embedding: &[f32]) -> Result<Vec<f32>, Refused> {
        check_dimension(*self.dimension.get_or_insert(embedding.len()), embedding.len())?;
        let mut embedding = embedding.to_vec();
        if normalise(&mut embedding) {
            Ok(embedding)
        } else {
            Err(refused(format!("{name}: an embedding is zero or not finite")))
        }
    }
}

/// One part of a gallery.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "(Vec<Person>, Vec<Rejected>)")]
pub struct Part {
    /// Sorted by name; names are unique.
    pub people: Vec<Person>,
}

/// The position of a person in a part, and their rejected faces.
type Rejected = (u32, Vec<Vec<f32>>);

impl TryFrom<(Vec<Person>, Vec<Rejected>)> for Part {
    type Error = &'static str;

    fn try_from((mut people, rejected): (Vec<Person>, Vec<Rejected>)) -> Result<Self, Self::Error> {
        // A part has one encoding.
        if !rejected.is_sorted_by(|a, b| a.0 < b.0) || rejected.iter().any(|(_, faces)| faces.is_empty()) {
            return Err("rejected faces out of order");
        }
        for (at, faces) in rejected {
            people.get_mut(at as usize).ok_or("rejected faces of nobody")?.rejected = faces;
        }
        Ok(Self { people })
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rejected = self.people.iter().map(|person| &person.rejected).enumerate();
        let rejected: Vec<(u32, &Vec<Vec<f32>>)> =
            rejected.filter(|(_, faces)| !faces.is_empty()).map(|(at, faces)| (at as u32, faces)).collect();
        // The people alone are what earlier releases read.
        if rejected.is_empty() {
            self.people.serialize(serializer)
        } else {
            (&self.people, rejected).serialize(serializer)
        }
    }
}

impl Wire for Part {
    const VERSION: u8 = 2; // 1 had no rejected faces

    fn version(&self) -> u8 {
        if self.has_rejected() { 2 } else { 1 }
    }

    fn from_earlier(version: u8, body: Body<'_>) -> Option<Result<Self, WireError>> {
        (version == 1).then(|| body.decode().map(|people| Self { people }))
    }
}

/// Returns the refusal of a change after which a person would have more photos than are kept.
pub(super) fn too_many_photos(name: &str, count: usize, max: usize) -> Refused {
    refused(format!("{name} would have {count} photos; at most {max} are kept (gallery.max_photos)"))
}

impl Part {
    /// Returns whether the people are sorted, and each has embeddings of this length.
    pub(super) fn is_valid(&self, dimension: usize) -> bool {
        let embeddings = |person: &Person| {
            let mut all = person.embeddings.iter().chain(&person.rejected);
            !person.embeddings.is_empty() && all.all(|embedding| embedding.len() == dimension)
        };
        self.people.is_sorted_by(|a, b| a.name < b.name) && self.people.iter().all(embeddings)
    }

    /// Returns whether there are rejected faces.
    pub(super) fn has_rejected(&self) -> bool {
        self.people.iter().any(|person| !person.rejected.is_empty())
    }

    /// Returns the number of photos.
    pub(super) fn photos(&self) -> usize {
        self.people.iter().map(|person| person.embeddings.len()).sum()
    }

    /// Adds photos of new or known people, in place. Returns whether anything has changed.
    ///
    /// # Errors
    /// A name or an embedding is invalid, or a limit is exceeded.
    pub(super) fn add(&mut self, people: &[Person], rules: &mut Rules) -> Result<bool, Refused> {
        let mut changed = false;
        for new in people {
            check_name(&new.name)?;
            if new.embeddings.is_empty() {
                return Err(refused(format!("{}: no embedding given", new.name)));
            }
            let at = self.people.binary_search_by(|p| p.name.cmp(&new.name)).unwrap_or_else(|at| {
                self.people.insert(at, Person::new(new.name.clone(), Vec::new()));
                at
            });
            let person = &mut self.people[at];
            for embedding in &new.embeddings {
                let embedding = rules.checked(&new.name, embedding)?;
                // A photo says more than an earlier rejection of it.
                changed |= person.accept(&embedding, rules.same_photo);
                if person.embeddings.iter().all(|k| dot(k, &embedding) <= rules.same_photo) {
                    person.embeddings.push(embedding);
                    changed = true;
                }
            }
            for face in &new.rejected {
                changed |= person.reject(rules.checked(&new.name, face)?, rules.same_photo);
            }
            if person.embeddings.len() > rules.max_photos {
                return Err(too_many_photos(&new.name, person.embeddings.len(), rules.max_photos));
            }
        }
        Ok(changed)
    }

    /// Divides the part into parts of about the same number of embeddings, at most `max` in each unless one person has
    /// more. An empty part becomes none.
    pub(super) fn split(self, max: usize) -> Vec<Self> {
        let stored: usize = self.people.iter().map(Person::stored).sum();
        let parts = stored.div_ceil(max).max(1);
        let share = stored.div_ceil(parts);
        let mut split: Vec<Self> = Vec::new();
        let mut embeddings = 0;
        for person in self.people {
            let count = person.stored();
            if split.is_empty() || embeddings >= share || embeddings + count > max {
                split.push(Self::default());
                embeddings = 0;
            }
            embeddings += count;
            split.last_mut().expect("one was just pushed").people.push(person);
        }
        split
    }
}

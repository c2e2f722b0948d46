//! One part of a gallery: the people between two names, in one object.

use serde::{Deserialize, Serialize};

use super::{
    person::{Person, check_name},
    refused::{Refused, check_dimension, refused},
};
use crate::{
    inference::embeddings::similarity::{dot, normalise},
    wire::Wire,
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

/// One part of a gallery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Sorted by name; names are unique.
    pub people: Vec<Person>,
}

impl Wire for Part {}

/// Returns the refusal of a change after which a person would have more photos than are kept.
pub(super) fn too_many_photos(name: &str, count: usize, max: usize) -> Refused {
    refused(format!("{name} would have {count} photos; at most {max} are kept (gallery.max_photos)"))
}

impl Part {
    /// Returns whether the people are sorted, and each has embeddings of this length.
    pub(super) fn is_valid(&self, dimension: usize) -> bool {
        let embeddings = |person: &Person| {
            !person.embeddings.is_empty() && person.embeddings.iter().all(|embedding| embedding.len() == dimension)
        };
        self.people.is_sorted_by(|a, b| a.name < b.name) && self.people.iter().all(embeddings)
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
                self.people.insert(at, Person { name: new.name.clone(), embeddings: Vec::new() });
                at
            });
            let known = &mut self.people[at].embeddings;
            for embedding in &new.embeddings {
                check_dimension(*rules.dimension.get_or_insert(embedding.len()), embedding.len())?;
                let mut embedding = embedding.clone();
                if !normalise(&mut embedding) {
                    return Err(refused(format!("{}: an embedding is zero or not finite", new.name)));
                }
                if known.iter().all(|k| dot(k, &embedding) <= rules.same_photo) {
                    known.push(embedding);
                    changed = true;
                }
            }
            if known.len() > rules.max_photos {
                return Err(too_many_photos(&new.name, known.len(), rules.max_photos));
            }
        }
        Ok(changed)
    }

    /// Divides the part into parts of about the same number of photos, at most `max` in each unless one person has
    /// more. An empty part becomes none.
    pub(super) fn split(self, max: usize) -> Vec<Self> {
        let parts = self.photos().div_ceil(max).max(1);
        let share = self.photos().div_ceil(parts);
        let mut split: Vec<Self> = Vec::new();
        let mut photos = 0;
        for person in self.people {
            let count = person.embeddings.len();
            if split.is_empty() || photos >= share || photos + count > max {
                split.push(Self::default());
                photos = 0;
            }
            photos += count;
            split.last_mut().expect("one was just pushed").people.push(person);
        }
        split
    }
}

//! The people who are known: names and embeddings, and the search for the nearest.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::{
    recognition::{NO_FACE, UNKNOWN},
    wire::Wire,
};

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Cosine similarity over which two embeddings come from the same photo: rounding differs from machine to machine,
/// other photos of the same person do not come near.
const SAME_PHOTO: f32 = 0.9999;

/// A person's name and the embeddings (unit length) of their photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub name: String,
    pub embeddings: Vec<Vec<f32>>,
}

/// One version of the gallery. Read only: a change makes a new one ([`Gallery::with`], [`Gallery::without`]).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Gallery {
    /// Grows by one with each change; 0 is the empty gallery that nobody has written.
    pub version: u64,
    /// In name order, each name once.
    pub people: Vec<Person>,
    /// Made when first searched.
    #[serde(skip)]
    index: OnceLock<Index>,
}

impl Wire for Gallery {}

impl PartialEq for Gallery {
    fn eq(&self, other: &Self) -> bool {
        (self.version, &self.people) == (other.version, &other.people)
    }
}

/// All embeddings in one block of memory, row after row.
#[derive(Clone, Debug, Default)]
struct Index {
    rows: Vec<f32>,
    /// Of each row, the position of its person.
    owners: Vec<u32>,
}

/// Why a change was refused, or a search is impossible; says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

fn refused(why: impl Into<String>) -> Refused {
    Refused(why.into())
}

impl Gallery {
    pub fn new(version: u64, people: Vec<Person>) -> Self {
        Self { version, people, index: OnceLock::new() }
    }

    /// Length of the embeddings; `None` while there are none.
    pub fn dimension(&self) -> Option<usize> {
        self.people.iter().flat_map(|p| &p.embeddings).next().map(Vec::len)
    }

    /// The person with the photo most similar to `embedding` (unit length), and the cosine similarity, -1 to 1.
    /// `None` if the gallery is empty.
    ///
    /// # Errors
    /// The gallery was made with a model whose embeddings have another length.
    pub fn nearest(&self, embedding: &[f32]) -> Result<Option<(&str, f32)>, Refused> {
        let index = self.index();
        let Some(dimension) = self.dimension() else { return Ok(None) };
        check_dimension(dimension, embedding.len())?;
        let similarities = index.rows.chunks_exact(dimension).map(|row| dot(row, embedding));
        let best = similarities.zip(&index.owners).max_by(|(a, _), (b, _)| a.total_cmp(b));
        Ok(best.map(|(similarity, &owner)| (self.people[owner as usize].name.as_str(), similarity.clamp(-1.0, 1.0))))
    }

    /// Prepares the search, so that the first one is as fast as the next.
    pub fn warm(&self) {
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

    /// The next version, with more photos of new or known people; `None` if all are already there.
    ///
    /// # Errors
    /// A name or an embedding that cannot be kept, or a limit passed. Then nothing is added.
    pub fn with(&self, people: &[Person], max_people: usize, max_photos: usize) -> Result<Option<Self>, Refused> {
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
                if known.iter().all(|k| dot(k, &embedding) <= SAME_PHOTO) {
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
        Ok(changed.then(|| Self::new(self.version + 1, all)))
    }

    /// The next version, without a person; `None` if there is none of that name.
    pub fn without(&self, name: &str) -> Option<Self> {
        let at = self.people.binary_search_by(|p| p.name.as_str().cmp(name)).ok()?;
        let mut people = self.people.clone();
        people.remove(at);
        Some(Self::new(self.version + 1, people))
    }
}

/// Whether `name` can be a person's.
pub fn check_name(name: &str) -> Result<(), Refused> {
    let problem = if name.trim().is_empty() {
        "is empty"
    } else if name.chars().count() > MAX_NAME {
        "is too long"
    } else if name.trim() != name {
        "begins or ends with white space"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.contains('/') {
        "has a slash"
    } else if [".", ".."].contains(&name) {
        "is a folder's"
    } else if [UNKNOWN, NO_FACE].iter().any(|label| label.eq_ignore_ascii_case(name)) {
        "is what Rollcall answers for nobody"
    } else {
        return Ok(());
    };
    Err(refused(format!(
        "the name {name:?} {problem}; a name has 1 to {MAX_NAME} characters, no control character, no slash, and is \
         not \"{UNKNOWN}\" or \"{NO_FACE}\""
    )))
}

fn check_dimension(gallery: usize, given: usize) -> Result<(), Refused> {
    if gallery == given && given > 0 {
        return Ok(());
    }
    Err(refused(format!(
        "the embedding has {given} numbers, those of the gallery have {gallery}: they are of different models; \
         enrol again with the model in use, or import with --replace"
    )))
}

/// Scales to unit length. `false`, and unchanged, if that is impossible (zero or not finite).
pub fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length < 1e-12 {
        return false;
    }
    vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    true
}

/// Dot product in eight independent sums, which the compiler can keep in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0_f32; 8];
    for (x, y) in a.zip(b) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    rest + sums.iter().sum::<f32>()
}

#[cfg(test)]
mod tests;

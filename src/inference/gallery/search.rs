//! A gallery in memory, and the search for the nearest person.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use super::{
    part::Part,
    person::Person,
    refused::{self, Refused, check_dimension},
};
use crate::{
    inference::{
        embeddings::{
            index::Index,
            similarity::{dots, nearest},
        },
        false_accept::ScoreModel,
    },
    recognition::{Candidate, ModelId},
    settings::Threshold,
};

/// People whose embeddings are in one block of memory.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rows {
    names: Vec<String>,
    /// Position of each row's name.
    owners: Vec<u32>,
    /// The embeddings, row by row.
    rows: Vec<f32>,
    /// Position of the name of whom each rejected face is not.
    not_of: Vec<u32>,
    /// The embeddings of the rejected faces, row by row.
    rejected: Vec<f32>,
    /// Number of photos of people with rejected faces.
    kept_out: usize,
}

impl Rows {
    pub fn of<'a>(people: impl IntoIterator<Item = &'a Person>) -> Self {
        let mut all = Self::default();
        for (owner, person) in people.into_iter().enumerate() {
            all.names.push(person.name.clone());
            all.owners.resize(all.owners.len() + person.embeddings.len(), owner as u32);
            person.embeddings.iter().for_each(|embedding| all.rows.extend_from_slice(embedding));
            if !person.rejected.is_empty() {
                all.not_of.resize(all.not_of.len() + person.rejected.len(), owner as u32);
                person.rejected.iter().for_each(|face| all.rejected.extend_from_slice(face));
                all.kept_out += person.embeddings.len();
            }
        }
        all
    }

    /// Returns the number of embeddings.
    pub fn photos(&self) -> usize {
        self.owners.len()
    }

    /// Returns the number of embeddings that an index could contain: not those of people with rejected faces.
    pub fn indexable(&self) -> usize {
        self.photos() - self.kept_out
    }

    /// Returns the number of people.
    pub fn people(&self) -> u32 {
        self.names.len() as u32
    }

    /// Returns the embeddings of an owner, one after the other.
    pub fn photos_of(&self, owner: u32, dimension: usize) -> &[f32] {
        // The photos of one person follow one another.
        let [start, end] = [owner, owner + 1].map(|first| self.owners.partition_point(|of| *of < first));
        &self.rows[start * dimension..end * dimension]
    }

    /// Returns the similarity of the nearest photo of anybody but one owner.
    pub fn nearest_except(&self, owner: Option<u32>, embedding: &[f32]) -> Option<f32> {
        let mut products = vec![0.0; self.owners.len()];
        dots(&self.rows, embedding, &mut products);
        let others = self.owners.iter().zip(products).filter(|(of, _)| Some(**of) != owner);
        others.map(|(_, product)| product).max_by(f32::total_cmp)
    }

    /// Returns whether somebody has this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// Returns each person with the similarity of their nearest photo, without those of whom a rejected face is as near.
    fn nearest_of_each(&self, embedding: &[f32]) -> Vec<(&str, f32)> {
        let photos = highest(&self.rows, &self.owners, self.names.len(), embedding);
        let rejected = highest(&self.rejected, &self.not_of, self.names.len(), embedding);
        let names = self.names.iter().map(String::as_str).zip(photos);
        names.zip(rejected).filter(|((_, photo), rejected)| photo > rejected).map(|(near, _)| near).collect()
    }

    fn nearest(&self, embedding: &[f32]) -> Option<(&str, f32)> {
        if !self.not_of.is_empty() {
            return self.nearest_of_each(embedding).into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
        }
        let (row, similarity) = nearest(&self.rows, embedding)?;
        Some((&self.names[self.owners[row] as usize], similarity))
    }
}

/// Returns the highest similarity of an embedding with the rows of each owner.
fn highest(rows: &[f32], owners: &[u32], count: usize, embedding: &[f32]) -> Vec<f32> {
    let mut products = vec![0.0; owners.len()];
    dots(rows, embedding, &mut products);
    let mut highest = vec![f32::NEG_INFINITY; count];
    for (owner, product) in owners.iter().zip(products) {
        let highest = &mut highest[*owner as usize];
        *highest = highest.max(product);
    }
    highest
}

/// The people in an index file.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub index: Arc<Index>,
    /// Owners in the file who are not, or not like this, in the gallery.
    pub hidden: Arc<HashSet<u32>>,
}

/// One version of a gallery, to be searched.
#[derive(Clone, Debug, Default)]
pub struct Gallery {
    /// Increases by one with each change; 0 is the empty gallery before the first.
    pub version: u64,
    /// The model of the embeddings; `None` if there are none, or if the release that wrote the gallery did not record
    /// it.
    pub model: Option<ModelId>,
    pub(super) dimension: Option<usize>,
    pub(super) indexed: Option<Indexed>,
    /// People who are not in the index.
    pub(super) rows: Vec<Arc<Rows>>,
    /// Made when it is asked for.
    score_model: Arc<OnceLock<Fitted>>,
}

/// What a gallery's scores say of strangers.
#[derive(Debug)]
struct Fitted {
    photos: usize,
    model: ScoreModel,
    /// The rate that was asked for first, and its threshold, which takes a millisecond.
    chosen: (f64, f32),
}

impl Gallery {
    /// Creates a gallery of a few people.
    pub fn new(version: u64, people: &[Person], model: Option<ModelId>) -> Self {
        let dimension = people.iter().flat_map(|person| &person.embeddings).next().map(Vec::len);
        Self { version, model, dimension, rows: vec![Arc::new(Rows::of(people))], ..Self::default() }
    }

    pub(super) fn of_parts(
        (version, model, dimension): (u64, Option<ModelId>, Option<usize>),
        indexed: Option<Indexed>,
        rows: Vec<Arc<Rows>>,
    ) -> Self {
        Self { version, model, dimension, indexed, rows, ..Self::default() }
    }

    /// Takes over what was learned from the scores of an earlier version, unless more than a twentieth of the photos were added
    /// or removed since: it takes up to 0.2 s.
    pub(super) fn learned_from(mut self, earlier: &Self) -> Self {
        let few = |fitted: &Fitted| self.photos().abs_diff(fitted.photos) * 20 <= fitted.photos;
        if earlier.score_model.get().is_some_and(few) {
            self.score_model = earlier.score_model.clone();
        }
        self
    }

    /// Returns the number of photos.
    fn photos(&self) -> usize {
        let indexed = self.indexed.as_ref().map_or(0, |indexed| indexed.index.rows());
        indexed + self.rows.iter().map(|rows| rows.photos()).sum::<usize>()
    }

    /// Returns the cosine similarity at or above which a face gets the nearest person's name.
    pub fn threshold(&self, threshold: Threshold) -> f32 {
        let max_false_accept = match threshold {
            Threshold::Similarity(similarity) => return similarity,
            Threshold::MaxFalseAccept(rate) => rate,
        };
        let fitted = self.fitted(max_false_accept);
        if fitted.chosen.0 == max_false_accept { fitted.chosen.1 } else { fitted.model.threshold(max_false_accept) }
    }

    /// Returns the share of strangers, 0 to 1, that is predicted to get a name at this threshold.
    pub fn predicted_false_accept(&self, threshold: f32) -> f64 {
        self.fitted(0.0).model.rate(threshold)
    }

    fn fitted(&self, rate: f64) -> &Fitted {
        self.score_model.get_or_init(|| {
            let model = ScoreModel::new(&self.scores());
            Fitted { photos: self.photos(), chosen: (rate, model.threshold(rate)), model }
        })
    }

    /// Checks that embeddings of `model` can be compared with those of the gallery. If the gallery's model was not
    /// recorded, they are assumed to be.
    ///
    /// # Errors
    /// They cannot be compared; the message names both models and says what to do.
    pub fn check_model(&self, model: &ModelId) -> Result<(), Refused> {
        refused::check_model(self.model.as_ref(), model)
    }

    /// Returns the person with the photo most similar to `embedding` (of unit length), and the cosine similarity, -1
    /// to 1. `None` if the gallery is empty.
    ///
    /// A person is left out if a face that was rejected as theirs is at least as similar as their photos.
    ///
    /// In a large gallery, most photos are searched by an index, which finds the nearest with a probability that grows
    /// with its similarity. The similarity itself is exact.
    ///
    /// # Errors
    /// The embeddings of the gallery have a different length, because they come from a different model.
    pub fn nearest(&self, embedding: &[f32]) -> Result<Option<(&str, f32)>, Refused> {
        let Some(dimension) = self.dimension else { return Ok(None) };
        check_dimension(dimension, embedding.len())?;
        let indexed = self.indexed.as_ref().and_then(|Indexed { index, hidden }| {
            let found = index.search(embedding, |owner| hidden.contains(&owner))?;
            Some((index.label(found.owner), found.similarity))
        });
        // A person may have been erased since.
        let indexed = indexed.filter(|(name, _)| !name.starts_with('\0'));
        let found = self.rows.iter().filter_map(|rows| rows.nearest(embedding)).chain(indexed);
        let best = found.max_by(|(_, a), (_, b)| a.total_cmp(b));
        Ok(best.map(|(name, similarity)| (name, similarity.clamp(-1.0, 1.0))))
    }
}

impl Gallery {
    /// Returns up to `count` people whose photos are most similar to `embedding` (of unit length), the most similar one
    /// first, each with the similarity of their nearest photo.
    ///
    /// In a large gallery, a person is found with a probability, as by [`Self::nearest`].
    ///
    /// # Errors
    /// The embeddings of the gallery have a different length, because they come from a different model.
    pub fn candidates(&self, embedding: &[f32], count: usize) -> Result<Vec<Candidate>, Refused> {
        let Some(dimension) = self.dimension else { return Ok(Vec::new()) };
        check_dimension(dimension, embedding.len())?;
        let mut found: Vec<(&str, f32)> = self.rows.iter().flat_map(|rows| rows.nearest_of_each(embedding)).collect();
        if let Some(Indexed { index, hidden }) = &self.indexed {
            let nearest = index.search_several(embedding, count, |owner| hidden.contains(&owner));
            found.extend(nearest.into_iter().map(|next| (index.label(next.owner), next.similarity)));
        }
        // A person may have been erased since.
        found.retain(|(name, _)| !name.starts_with('\0'));
        found.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        found.truncate(count);
        let candidate = |(name, similarity): (&str, f32)| Candidate {
            name: name.to_owned(),
            similarity: similarity.clamp(-1.0, 1.0),
        };
        Ok(found.into_iter().map(candidate).collect())
    }
}

/// Which people of a part are in an index as they are in the part, and which are not.
pub(super) struct Difference {
    /// Owners in the index.
    pub same: Vec<u32>,
    /// The others.
    pub others: Arc<Rows>,
}

impl Difference {
    /// Compares a part with an index; without one, all of its people are others.
    pub fn of(part: &Part, index: Option<&Index>) -> Self {
        let mut same = Vec::new();
        let others = part.people.iter().filter(|person| {
            let owner = index.and_then(|index| find(index, person));
            same.extend(owner);
            owner.is_none()
        });
        let others = Arc::new(Rows::of(others));
        Self { same, others }
    }
}

/// Returns the owner in the index with the person's name and embeddings. Whoever has rejected faces is searched without it.
fn find(index: &Index, person: &Person) -> Option<u32> {
    if !person.rejected.is_empty() {
        return None;
    }
    let owner = owner_named(index, &person.name)?;
    let embeddings = index.embeddings(owner);
    let same = embeddings.len() == person.embeddings.len() * index.dimension()
        && embeddings.chunks_exact(index.dimension()).eq(person.embeddings.iter().map(Vec::as_slice));
    same.then_some(owner)
}

/// Returns the owner with this name. The labels of an index are sorted, but those of erased owners are zero bytes.
pub(super) fn owner_named(index: &Index, name: &str) -> Option<u32> {
    let (mut low, mut high) = (0, index.owners());
    while low < high {
        let middle = low + (high - low) / 2;
        // The next owner that has a name; an erased one compares as the next does.
        let named = (middle..high).find(|owner| !index.is_erased(*owner));
        match named.map(|owner| (owner, index.label(owner).cmp(name))) {
            Some((owner, std::cmp::Ordering::Equal)) => return Some(owner),
            Some((owner, std::cmp::Ordering::Less)) => low = owner + 1,
            Some((_, std::cmp::Ordering::Greater)) | None => high = middle,
        }
    }
    None
}

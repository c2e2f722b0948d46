//! How similar the people of a gallery are to one another, from a sample of them.

use super::search::{Gallery, Indexed, Rows};
use crate::inference::{
    embeddings::similarity::dot,
    false_accept::{Scores, Sums},
};

/// Most and fewest photos in the sample.
const SAMPLE: (usize, usize) = (1_024, 256);
/// Most photos of one person in the sample.
const PHOTOS_EACH: usize = 4;
/// Most similarities that are computed to find the nearest photos, unless the sample were too small: some 0.1 s. In a gallery
/// with an index, each search takes less.
const SIMILARITIES: usize = 10_000_000;

/// Where a person's photos are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The owner in one of the blocks of memory.
    Rows(usize, u32),
    /// The owner in the index.
    Indexed(u32),
}

impl Gallery {
    /// Compares a sample of the gallery's people with one another and with everybody.
    pub(super) fn scores(&self) -> Scores {
        let everybody = self.everybody();
        let photos = everybody.iter().map(|whose| self.photos_of(*whose).count()).sum();
        let scanned: usize = self.rows.iter().map(|rows| rows.photos()).sum();
        let wanted = (SIMILARITIES / scanned.max(1)).clamp(SAMPLE.1, SAMPLE.0);
        let each = (photos as f64 / everybody.len().max(1) as f64).clamp(1.0, PHOTOS_EACH as f64);
        let people = ((wanted as f64 / each) as usize).clamp(1, everybody.len().max(1));
        let sampled = (0..people.min(everybody.len())).map(|i| everybody[i * everybody.len() / people]);
        let sample: Vec<(Whose, &[f32])> = sampled
            .flat_map(|whose| self.photos_of(whose).take(PHOTOS_EACH).map(move |photo| (whose, photo)))
            .collect();

        let (mut different, mut same) = (Sums::default(), Sums::default());
        for (i, (whose, photo)) in sample.iter().enumerate() {
            for (other, others) in &sample[..i] {
                let sums = if whose == other { &mut same } else { &mut different };
                sums.add(dot(photo, others));
            }
        }
        let nearest = sample.iter().filter_map(|(whose, photo)| self.nearest_other(*whose, photo)).collect();
        Scores { people: everybody.len(), photos, different, same, nearest }
    }

    fn everybody(&self) -> Vec<Whose> {
        let mut everybody = Vec::new();
        for (block, rows) in self.rows.iter().enumerate() {
            everybody.extend((0..rows.people()).map(|owner| Whose::Rows(block, owner)));
        }
        if let Some(Indexed { index, hidden }) = &self.indexed {
            let owners = (0..index.owners()).filter(|owner| !hidden.contains(owner) && !index.is_erased(*owner));
            everybody.extend(owners.map(Whose::Indexed));
        }
        everybody
    }

    fn photos_of(&self, whose: Whose) -> impl Iterator<Item = &[f32]> {
        let dimension = self.dimension.unwrap_or(1);
        let rows = match (whose, &self.indexed) {
            (Whose::Rows(block, owner), _) => self.rows[block].photos_of(owner, dimension),
            (Whose::Indexed(owner), Some(indexed)) => indexed.index.embeddings(owner),
            (Whose::Indexed(_), None) => &[],
        };
        rows.chunks_exact(dimension)
    }

    /// Returns the similarity of a photo with the nearest one of anybody else.
    fn nearest_other(&self, whose: Whose, photo: &[f32]) -> Option<f32> {
        let in_rows = self.rows.iter().enumerate().filter_map(|(block, rows): (usize, &std::sync::Arc<Rows>)| {
            let own = if let Whose::Rows(of, owner) = whose { (of == block).then_some(owner) } else { None };
            rows.nearest_except(own, photo)
        });
        let indexed = self.indexed.as_ref().and_then(|Indexed { index, hidden }| {
            let own = |owner| whose == Whose::Indexed(owner);
            index.search(photo, |owner| own(owner) || hidden.contains(&owner)).map(|found| found.similarity)
        });
        in_rows.chain(indexed).max_by(f32::total_cmp)
    }
}

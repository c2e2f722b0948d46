//! The search for the nearest embedding.

use std::collections::BTreeSet;

use super::{
    codes::{LANES, Query},
    file::{Index, NO_ROW, Section},
    rotation::Rotation,
};
use crate::similarity::{dot, dots, nearest};

/// Rows whose codes are looked at: the cells nearest to the query that have as many. An index with fewer is searched
/// whole.
const SCANNED: usize = 131_072;
/// Rows with the highest estimates, which are compared exactly.
const COMPARED: usize = 256;
/// Of these, the nearest, after those of as many owners as are asked for but one: all rows of their owners are compared. An owner with one row among them is found by its nearest.
const EXPANDED: usize = 16;

/// The owner of the nearest embedding found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Number of the owner.
    pub owner: u32,
    /// Dot product of the embedding and the query.
    pub similarity: f32,
}

impl Index {
    /// Returns the owner of the embedding nearest to `query` (of unit length), among owners that are not `hidden`;
    /// `None` if there is none.
    ///
    /// `None` also if the query has another length than the embeddings. The similarity is exact. The embedding is the nearest of all with a probability that grows with its similarity:
    /// see the module's description.
    pub fn search(&self, query: &[f32], hidden: impl Fn(u32) -> bool) -> Option<Match> {
        self.search_several(query, 1, hidden).into_iter().next()
    }

    /// Returns up to `count` owners of the embeddings nearest to `query` (of unit length), among owners that are not
    /// `hidden`, the nearest first. The index is scanned once.
    ///
    /// None if the query has another length than the embeddings. There are fewer if the embeddings that are
    /// compared belong to fewer owners.
    pub fn search_several(&self, query: &[f32], count: usize, hidden: impl Fn(u32) -> bool) -> Vec<Match> {
        if query.len() != self.dimension() || count == 0 {
            return Vec::new();
        }
        let (slots, owners) = (self.integers(Section::Slots), self.integers(Section::RowOwners));
        let mut rows: Vec<(f32, u32)> = self
            .promising(query)
            .into_iter()
            .map(|(_, slot)| slots[slot as usize])
            .filter(|row| *row != NO_ROW)
            .map(|row| (dot(self.row(row), query), owners[row as usize]))
            .filter(|(_, owner)| !hidden(*owner))
            .collect();
        rows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (mut owners, mut expanded) = (BTreeSet::new(), 0);
        for (_, owner) in rows {
            if expanded == EXPANDED {
                break;
            }
            expanded += usize::from(owners.len() + 1 >= count);
            owners.insert(owner);
        }
        // Rows that are being erased are not promising for long, so few labels need to be read.
        let matches = owners.into_iter().filter(|owner| !self.is_erased(*owner)).filter_map(|owner| {
            let (_, similarity) = nearest(self.embeddings(owner), query)?;
            Some(Match { owner, similarity })
        });
        let mut matches: Vec<Match> = matches.collect();
        matches.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        matches.truncate(count);
        matches
    }

    fn row(&self, row: u32) -> &[f32] {
        &self.floats(Section::Rows)[row as usize * self.dimension()..][..self.dimension()]
    }

    /// Returns the slots with the highest estimates, [`COMPARED`] if there are as many, and the estimates.
    fn promising(&self, query: &[f32]) -> Vec<(f32, u32)> {
        let words = self.header.words();
        let mut rotated = query.to_vec();
        rotated.resize(words * 64, 0.0);
        Rotation::new(words * 64, self.words(Section::Signs)).apply(&mut rotated);
        let quantised = Query::new(&rotated);

        let starts = self.integers(Section::CellStarts);
        let (codes, gains) = (self.codes(), self.floats(Section::Gains));
        let mut promising = Promising::default();
        let (mut estimates, mut above) = (Vec::new(), Vec::new());
        let mut scanned = 0;
        for cell in self.nearest_cells(query) {
            let groups = starts[cell] as usize..starts[cell + 1] as usize;
            let slots = groups.start * LANES..groups.end * LANES;
            let mean = &self.floats(Section::Means)[cell * query.len()..][..query.len()];
            estimates.resize(slots.len(), 0.0);
            let rows = (&codes[groups.start * words..groups.end * words], &gains[slots.clone()]);
            above.clear();
            quantised.estimate(rows, dot(mean, query), promising.bound, &mut estimates, &mut above);
            promising.add(&estimates, &above, slots.start);
            scanned += slots.len();
            if scanned >= SCANNED {
                break;
            }
        }
        promising.finish()
    }

    /// Returns the cells, the one in whose direction the query points most first.
    fn nearest_cells(&self, query: &[f32]) -> Vec<usize> {
        let mut products = vec![0.0; self.header.cells as usize];
        dots(self.floats(Section::Directions), query, &mut products);
        let mut cells: Vec<usize> = (0..products.len()).collect();
        cells.sort_unstable_by(|&a, &b| products[b].total_cmp(&products[a]));
        cells
    }
}

/// The slots with the highest estimates so far.
struct Promising {
    /// Between [`COMPARED`] and twice as many, once as many were seen.
    slots: Vec<(f32, u32)>,
    /// At least [`COMPARED`] slots have this estimate or a higher one.
    bound: f32,
}

impl Default for Promising {
    fn default() -> Self {
        Self { slots: Vec::with_capacity(2 * COMPARED), bound: f32::NEG_INFINITY }
    }
}

impl Promising {
    /// Adds the estimates of consecutive slots, of which the groups `above` exceed the bound. An estimate that is not a
    /// number is none.
    fn add(&mut self, estimates: &[f32], above: &[usize], first: usize) {
        for &group in above {
            let at = group * LANES;
            for (slot, &estimate) in (first + at..).zip(&estimates[at..at + LANES]) {
                if estimate > self.bound {
                    self.slots.push((estimate, slot as u32));
                }
            }
            if self.slots.len() > 2 * COMPARED - LANES {
                self.truncate();
                self.bound = self.slots[COMPARED - 1].0;
            }
        }
    }

    /// Keeps the highest [`COMPARED`], the lowest of them last.
    fn truncate(&mut self) {
        if self.slots.len() > COMPARED {
            self.slots.select_nth_unstable_by(COMPARED - 1, |a, b| b.0.total_cmp(&a.0));
            self.slots.truncate(COMPARED);
        }
    }

    fn finish(mut self) -> Vec<(f32, u32)> {
        self.truncate();
        self.slots
    }
}

//! Cells: groups of embeddings that point in about the same direction, found by spherical *k*-means (Dhillon and Modha
//! 2001) in two levels, which assigns a row with √k instead of k comparisons.

use rand::{Rng, seq::IteratorRandom as _};

use crate::similarity::{dots, nearest, normalise};

/// Iterations of *k*-means.
const ITERATIONS: usize = 6;
/// Regions in which the cell of a row is searched. With more, cells become hardly better.
const SEARCHED_REGIONS: usize = 4;

/// The directions of the cells, by region.
pub struct Cells {
    dimension: usize,
    /// Unit vectors, row by row.
    regions: Vec<f32>,
    /// The first cell of each region, and the number of cells.
    starts: Vec<usize>,
    /// Unit vectors, row by row.
    directions: Vec<f32>,
}

impl Cells {
    /// Divides a sample of rows of unit length into about `count` cells.
    pub fn train(sample: &[f32], dimension: usize, count: usize, rng: &mut impl Rng) -> Self {
        let rows = sample.len() / dimension;
        let regions = means(sample, dimension, (count as f64).sqrt().round().max(1.0) as usize, rng);
        let mut members = vec![Vec::new(); regions.len() / dimension];
        for row in sample.chunks_exact(dimension) {
            members[nearest(&regions, row).map_or(0, |(region, _)| region)].extend_from_slice(row);
        }
        let (mut starts, mut directions) = (vec![0], Vec::new());
        for members in members {
            let share = (members.len() / dimension * count) as f64 / rows as f64;
            if !members.is_empty() {
                directions.extend(means(&members, dimension, share.round().max(1.0) as usize, rng));
            }
            starts.push(directions.len() / dimension);
        }
        Self { dimension, regions, starts, directions }
    }

    /// Returns the number of cells.
    pub fn count(&self) -> usize {
        self.directions.len() / self.dimension
    }

    /// Returns the directions, row by row.
    pub fn directions(&self) -> &[f32] {
        &self.directions
    }

    /// Returns the cell of a row.
    pub fn assign(&self, row: &[f32]) -> usize {
        let mut products = vec![0.0; self.regions.len() / self.dimension];
        dots(&self.regions, row, &mut products);
        let mut regions: Vec<usize> = (0..products.len()).collect();
        let searched = SEARCHED_REGIONS.min(regions.len());
        regions.select_nth_unstable_by(searched - 1, |&a, &b| products[b].total_cmp(&products[a]));
        let cells = regions[..searched].iter().filter_map(|&region| {
            let (first, end) = (self.starts[region], self.starts[region + 1]);
            let (cell, product) = nearest(&self.directions[first * self.dimension..end * self.dimension], row)?;
            Some((first + cell, product))
        });
        cells.max_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(cell, _)| cell)
    }
}

/// Returns up to `count` directions, row by row: the means of clusters of `rows`, which are not empty.
fn means(rows: &[f32], dimension: usize, count: usize, rng: &mut impl Rng) -> Vec<f32> {
    let first = rows.chunks_exact(dimension).sample(rng, count);
    let mut directions: Vec<f32> = first.concat();
    for _ in 0..ITERATIONS {
        let mut sums = vec![0.0_f32; directions.len()];
        for row in rows.chunks_exact(dimension) {
            let cluster = nearest(&directions, row).map_or(0, |(cluster, _)| cluster);
            let sum = &mut sums[cluster * dimension..][..dimension];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        for (direction, sum) in directions.chunks_exact_mut(dimension).zip(sums.chunks_exact_mut(dimension)) {
            // An empty cluster keeps its direction.
            if normalise(sum) {
                direction.copy_from_slice(sum);
            }
        }
    }
    directions
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha12Rng};

    use super::*;

    #[test]
    fn rows_around_the_same_direction_share_a_cell() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut around = |axis: usize| {
            let mut row: Vec<f32> = (0..16).map(|_| rng.random_range(-0.05..0.05)).collect();
            row[axis] += 1.0;
            assert!(normalise(&mut row));
            row
        };
        let rows: Vec<Vec<f32>> = (0..16 * 40).map(|i| around(i % 16)).collect();
        let cells = Cells::train(&rows.concat(), 16, 64, &mut ChaCha12Rng::seed_from_u64(2));
        assert!((48..=80).contains(&cells.count()), "{}", cells.count());
        let mut axes = vec![None; cells.count()];
        for (i, row) in rows.iter().enumerate() {
            let axis = axes[cells.assign(row)].get_or_insert(i % 16);
            assert_eq!(*axis, i % 16);
        }
    }

    #[test]
    fn fewer_rows_than_cells_make_fewer_cells() {
        let rows = [1.0, 0.0, 0.0, 1.0];
        let cells = Cells::train(&rows, 2, 100, &mut ChaCha12Rng::seed_from_u64(1));
        assert!((1..=2).contains(&cells.count()));
        assert!(cells.assign(&[1.0, 0.0]) < cells.count());
    }
}

//! A random rotation. After it, the bits of a code carry about the same information, whatever the embeddings are.

/// Rounds of signs and transform. Three are close to a uniformly random rotation (Andoni et al. 2015).
pub const ROUNDS: usize = 3;

/// A random rotation of vectors of `dimension` numbers, a power of two: in each round, random signs and then a
/// Walsh–Hadamard transform.
pub struct Rotation<'a> {
    dimension: usize,
    /// One bit per round and dimension: set for a negative sign.
    signs: &'a [u64],
}

impl<'a> Rotation<'a> {
    /// Returns the number of words with signs for `dimension`, which is a multiple of 64.
    pub const fn words(dimension: usize) -> usize {
        ROUNDS * dimension / 64
    }

    /// Creates the rotation with these signs, [`Self::words`] of them.
    pub fn new(dimension: usize, signs: &'a [u64]) -> Self {
        debug_assert!(dimension.is_power_of_two() && signs.len() == Self::words(dimension));
        Self { dimension, signs }
    }

    /// Rotates a vector. Its length, the square root of the sum of its squares, does not change.
    pub fn apply(&self, vector: &mut [f32]) {
        for signs in self.signs.chunks_exact(self.dimension / 64) {
            for (i, value) in vector.iter_mut().enumerate() {
                if signs[i / 64] >> (i % 64) & 1 == 1 {
                    *value = -*value;
                }
            }
            transform(vector);
        }
        let scale = (self.dimension as f32).sqrt().powi(-(ROUNDS as i32));
        vector.iter_mut().for_each(|value| *value *= scale);
    }
}

/// The Walsh–Hadamard transform, without its factor 1/√n. The length of `vector` is a power of two.
fn transform(vector: &mut [f32]) {
    let mut half = 1;
    while half < vector.len() {
        for pair in vector.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::similarity::dot;

    #[test]
    fn a_rotation_keeps_lengths_and_angles() {
        let signs: Vec<u64> = (0..Rotation::words(128) as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let rotation = Rotation::new(128, &signs);
        let mut a: Vec<f32> = (0..128).map(|i| (i as f32).sin()).collect();
        let mut b: Vec<f32> = (0..128).map(|i| (i as f32 * 0.7).cos()).collect();
        let before = (dot(&a, &a), dot(&b, &b), dot(&a, &b));
        let original = a.clone();
        rotation.apply(&mut a);
        rotation.apply(&mut b);
        for (was, is) in [(before.0, dot(&a, &a)), (before.1, dot(&b, &b)), (before.2, dot(&a, &b))] {
            assert!((was - is).abs() < 1e-3, "{was} {is}");
        }
        assert_ne!(a, original);
    }
}

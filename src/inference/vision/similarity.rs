//! Compares embeddings: the cosine similarity of two vectors of unit length is their dot product.

/// Scales a vector to unit length. Returns `false` and leaves it unchanged if its length is (almost) zero or not
/// finite.
pub fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length < 1e-12 {
        return false;
    }
    vector.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    true
}

/// Returns the dot product of two vectors of the same length. The eight independent sums let the compiler use vector
/// registers.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
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

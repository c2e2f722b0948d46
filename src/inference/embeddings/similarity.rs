//! Compares embeddings: the cosine similarity of two vectors of unit length is their dot product.

use multiversion::multiversion;

/// Number of independent sums of a dot product: as many as fit into one AVX-512 register.
const SUMS: usize = 16;

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

/// Returns the dot product of two vectors of the same length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    dot_inline(a, b)
}

/// The same, compiled for the instruction set of the caller.
#[inline(always)]
fn dot_inline(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a.chunks_exact(SUMS), b.chunks_exact(SUMS));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    let mut sums = [0.0_f32; SUMS];
    for (x, y) in a.zip(b) {
        for i in 0..SUMS {
            sums[i] += x[i] * y[i];
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// Computes the dot product of each row with `vector`, as [`dot`] does. The rows are as long as the vector, and `dots`
/// has one entry per row.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
pub fn dots(rows: &[f32], vector: &[f32], dots: &mut [f32]) {
    for (row, product) in rows.chunks_exact(vector.len()).zip(dots) {
        *product = dot_inline(row, vector);
    }
}

/// Returns the row with the greatest dot product with `vector`, and the product; `None` if there is no row.
pub fn nearest(rows: &[f32], vector: &[f32]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    let mut products = [0.0; 256];
    for (chunk, rows) in rows.chunks(products.len() * vector.len()).enumerate() {
        let products = &mut products[..rows.len() / vector.len()];
        dots(rows, vector, products);
        for (row, &product) in products.iter().enumerate() {
            if best.is_none_or(|(_, most)| product > most) {
                best = Some((chunk * 256 + row, product));
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_row_is_the_one_with_the_greatest_dot_product() {
        let rows: Vec<f32> = (0..600).flat_map(|row| [row as f32, (row as f32 - 477.0).abs(), 1.0]).collect();
        assert_eq!(nearest(&rows, &[0.0, -1.0, 0.5]), Some((477, 0.5)));
        assert_eq!(nearest(&rows, &[1.0, 0.0, 0.0]), Some((599, 599.0)));
        assert_eq!(nearest(&[], &[1.0, 0.0, 0.0]), None);
    }

    #[test]
    fn a_dot_product_counts_every_number_of_a_vector_of_any_length() {
        for length in [0, 1, 15, 16, 17, 40] {
            let a: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let expected: f32 = a.iter().map(|x| x * x).sum();
            assert_eq!(dot(&a, &a), expected, "{length}");
        }
    }
}

//! The similarity that clients of CompreFace compare with their thresholds.

/// Euclidean distance of two embeddings of unit length at which the similarity is 0.5: at which OpenCV's documentation of
/// SFace takes two faces for those of one person (`FaceRecognizerSF`, 1.128 for the L2 distance).
const MIDDLE: f32 = 1.128;
/// How steep the similarity is. With this, the cosine similarities that `recognition.threshold` recommends for galleries of
/// about fifty, of hundreds and of 100,000 people (0.45, 0.50, 0.62) are 0.80, 0.90 and 0.99.
const STEEPNESS: f32 = 8.75;

/// Returns the similarity, 0 to 1, for a cosine similarity of two embeddings, by CompreFace's formula: `(tanh((MIDDLE -
/// distance) * STEEPNESS) + 1) / 2`, rounded to five digits. CompreFace has a pair of constants for each of its models; these
/// are for SFace. `docs/compreface.md` has what was measured with them.
pub(super) fn similarity(cosine: f32) -> f64 {
    let distance = (2.0 - 2.0 * cosine.clamp(-1.0, 1.0)).sqrt();
    rounded((((MIDDLE - distance) * STEEPNESS).tanh() + 1.0) / 2.0)
}

/// Rounds to five digits after the point, as CompreFace does.
pub(super) fn rounded(number: f32) -> f64 {
    (f64::from(number) * 1e5).round() / 1e5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_keep_their_meaning() {
        for (cosine, expected) in
            [(1.0, 1.0), (0.62, 0.99), (0.50, 0.90), (0.45, 0.80), (0.364, 0.50), (0.2, 0.08), (-1.0, 0.0)]
        {
            let similarity = similarity(cosine);
            assert!((similarity - expected).abs() < 0.01, "{cosine}: {similarity}, not {expected}");
        }
        assert_eq!(similarity(2.0), similarity(1.0), "rounding errors of a dot product change nothing");
        let rising: Vec<f64> = (-100..=100).map(|cosine| similarity(cosine as f32 / 100.0)).collect();
        assert!(rising.is_sorted() && rising.iter().all(|s| (0.0..=1.0).contains(s)), "{rising:?}");
    }

    #[test]
    fn numbers_have_five_digits() {
        assert_eq!(rounded(0.978_584_9), 0.97858);
        assert_eq!(rounded(0.999_999), 1.0);
    }
}

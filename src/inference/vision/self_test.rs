//! What an embedder must compute from an image that is drawn here: whether a model file computes correctly depends on
//! the file, on the runtime and on the CPU's instructions for integers.

use rollcall_embeddings::similarity::normalise;

use super::align::SIDE;

/// The embedding of [`face`] by SFace in fp32, of unit length, computed by software other than this program: `make
/// golden` writes it.
const GOLDEN: [f32; 128] = include!("self_test.json");

/// Draws a blurred face of a few shapes where [`align`](super::align) puts faces, as planar RGB of shape [3, SIDE,
/// SIDE]. The levels are computed in integers, so that `tools/golden.py` draws the same.
pub fn face() -> Vec<f32> {
    let side = SIDE as i32;
    let sharp: Vec<[i32; 3]> = (0..side * side).map(|at| colour(at % side, at / side)).collect();
    // The mean of 5 × 5 pixels: photos have no sharp edges. Pixels at the border are continued outwards.
    let blurred = |channel: usize, x: i32, y: i32| {
        let at = |dx: i32, dy: i32| (y + dy).clamp(0, side - 1) * side + (x + dx).clamp(0, side - 1);
        let square = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| at(dx, dy)));
        square.map(|at| sharp[at as usize][channel]).sum::<i32>() / 25
    };
    let pixels = |channel| (0..side * side).map(move |at| blurred(channel, at % side, at / side) as f32);
    (0..3).flat_map(pixels).collect()
}

/// Returns the levels of red, green and blue at a pixel.
fn colour(x: i32, y: i32) -> [i32; 3] {
    let side = (x - 56).abs(); // both halves are the same
    let ellipse = |x: i32, across: i32, y: i32, down: i32| across * x.pow(2) + down * y.pow(2);
    let in_head = ellipse(side, 169, y - 62, 100) < 270_400;
    if ellipse(side, 1, y - 92, 9) < 250 {
        return [165, 75, 75]; // mouth
    }
    if (50..74).contains(&y) && side < 3 + (y - 50) / 5 {
        return [170, 125, 105]; // nose
    }
    if ellipse(side - 18, 1, y - 52, 1) < 14 {
        return [40, 30, 30]; // pupils
    }
    if ellipse(side - 18, 1, y - 52, 3) < 60 {
        return [235, 230, 225]; // eyes
    }
    if ellipse(side - 18, 1, y - 43, 9) < 100 {
        return [80, 55, 45]; // brows
    }
    if in_head && y < 30 {
        return [60, 45, 35]; // hair
    }
    if in_head {
        let skin = 205 - ellipse(side, 1, y - 62, 1) / 40;
        return [skin, skin * 3 / 4, skin * 5 / 8];
    }
    [40 + (x + y) / 4; 3] // background
}

/// Returns the cosine similarity of the embedding of [`face`] to the golden one, -1 to 1; `None` if the embedding has
/// a different length or no direction.
pub fn agreement(embedding: &[f32]) -> Option<f32> {
    let mut embedding = embedding.to_vec();
    let comparable = embedding.len() == GOLDEN.len() && normalise(&mut embedding);
    comparable.then(|| embedding.iter().zip(&GOLDEN).map(|(a, b)| a * b).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_embedding_agrees_with_itself_and_with_nothing_else() {
        assert!((agreement(&GOLDEN).unwrap() - 1.0).abs() < 1e-4);
        assert!((agreement(&GOLDEN.map(|v| v * 7.0)).unwrap() - 1.0).abs() < 1e-4, "whatever its length");
        assert!((agreement(&GOLDEN.map(|v| -v)).unwrap() + 1.0).abs() < 1e-4);
        assert_eq!(agreement(&GOLDEN[1..]), None);
        assert_eq!(agreement(&[0.0; 128]), None);
        assert_eq!(agreement(&[f32::NAN; 128]), None);
    }

    #[test]
    fn the_drawn_face_is_planar_and_within_the_levels_of_an_image() {
        let face = face();
        let at = |channel: usize, x: usize, y: usize| face[channel * SIDE * SIDE + y * SIDE + x];
        assert_eq!(face.len(), 3 * SIDE * SIDE);
        assert!(face.iter().all(|level| (0.0..=255.0).contains(level)));
        assert_eq!([at(0, 0, 0), at(1, 0, 0), at(2, 0, 0)], [40.0; 3], "background");
        assert_eq!([at(0, 56, 92), at(1, 56, 92), at(2, 56, 92)], [165.0, 75.0, 75.0], "mouth");
        assert!(at(0, 38, 52) < 80.0 && at(0, 38, 52) == at(0, 74, 52), "pupils");
    }
}

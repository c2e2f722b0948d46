//! Aligns a face: rotates, scales and moves it to where the embedder expects it.

use image::RgbImage;

/// Width and height of an aligned face, in pixels.
pub const SIDE: usize = 112;

/// Positions of right eye, left eye, nose, right and left corner of the mouth in an aligned face: the template of
/// ArcFace (Deng et al. 2019) and of OpenCV's `FaceRecognizerSF`.
pub const TEMPLATE: [[f32; 2]; 5] =
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]];

/// Rotation, uniform scale and translation: `x' = a·x − b·y + tx`, `y' = b·x + a·y + ty`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Similarity {
    /// Scale times the cosine of the angle.
    a: f64,
    /// Scale times the sine of the angle.
    b: f64,
    /// Translation to the right, in pixels.
    tx: f64,
    /// Translation down, in pixels.
    ty: f64,
}

impl Similarity {
    /// Returns the transform that maps `from` to `to` with the least sum of squared distances. `None` if all points of
    /// `from` coincide, or a coordinate is not finite.
    ///
    /// Umeyama 1991 ("Least-squares estimation of transformation parameters between two point patterns"). In the plane,
    /// its singular value decomposition has a closed form: with points as complex numbers about their means,
    /// scale·e^(i·angle) = Σ conj(from)·to / Σ |from|². The result is never a reflection.
    fn fit(from: &[[f32; 2]; 5], to: &[[f32; 2]; 5]) -> Option<Self> {
        let (from_x, from_y) = mean(from);
        let (to_x, to_y) = mean(to);
        let (mut dot, mut cross, mut spread) = (0.0, 0.0, 0.0);
        for (f, t) in from.iter().zip(to) {
            let (fx, fy) = (f64::from(f[0]) - from_x, f64::from(f[1]) - from_y);
            let (x, y) = (f64::from(t[0]) - to_x, f64::from(t[1]) - to_y);
            dot += fx * x + fy * y;
            cross += fx * y - fy * x;
            spread += fx * fx + fy * fy;
        }
        let (a, b) = (dot / spread, cross / spread);
        let fitted = Self { a, b, tx: to_x - (a * from_x - b * from_y), ty: to_y - (b * from_x + a * from_y) };
        (spread > f64::EPSILON && [fitted.a, fitted.b, fitted.tx, fitted.ty].iter().all(|v| v.is_finite()))
            .then_some(fitted)
    }

    /// Maps a point.
    fn apply(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.a * x - self.b * y + self.tx, self.b * x + self.a * y + self.ty]
    }

    /// Returns the inverse. `None` if all points are mapped to the same one.
    fn inverse(&self) -> Option<Self> {
        let norm = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / norm, -self.b / norm);
        let back = Self { a, b, tx: -(a * self.tx - b * self.ty), ty: -(b * self.tx + a * self.ty) };
        (norm > f64::MIN_POSITIVE && back.a.is_finite() && back.tx.is_finite() && back.ty.is_finite()).then_some(back)
    }
}

/// Returns the mean of the points.
fn mean(points: &[[f32; 2]; 5]) -> (f64, f64) {
    let sum = points.iter().fold((0.0, 0.0), |(x, y), p| (x + f64::from(p[0]), y + f64::from(p[1])));
    (sum.0 / 5.0, sum.1 / 5.0)
}

/// Writes the face at `landmarks` to `out`, as planar RGB from 0 to 255 of shape [3, SIDE, SIDE]. Returns `None` if no
/// similarity transform maps the landmarks to [`TEMPLATE`].
///
/// Samples as `cv2.warpAffine` does with `INTER_LINEAR` and a black border: a pixel's coordinates are those of its
/// centre, neighbours outside the image count as 0, and the result is rounded to whole levels.
pub fn align(image: &RgbImage, landmarks: &[[f32; 2]; 5], out: &mut [f32]) -> Option<()> {
    let back = Similarity::fit(landmarks, &TEMPLATE)?.inverse()?;
    let plane = SIDE * SIDE;
    let (red, rest) = out.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    let pixels = image.as_raw();
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    for row in 0..SIDE {
        for col in 0..SIDE {
            let [x, y] = back.apply([col as f64, row as f64]);
            let (left, top) = (x.floor(), y.floor());
            let (fx, fy) = ((x - left) as f32, (y - top) as f32);
            let (left, top) = (left as i64, top as i64);
            let mut sum = [0.0_f32; 3];
            for (px, py, weight) in [
                (left, top, (1.0 - fx) * (1.0 - fy)),
                (left + 1, top, fx * (1.0 - fy)),
                (left, top + 1, (1.0 - fx) * fy),
                (left + 1, top + 1, fx * fy),
            ] {
                if (0..width).contains(&px) && (0..height).contains(&py) {
                    let at = 3 * (py * width + px) as usize;
                    for (total, &level) in sum.iter_mut().zip(&pixels[at..at + 3]) {
                        *total += weight * f32::from(level);
                    }
                }
            }
            let at = row * SIDE + col;
            red[at] = sum[0].round();
            green[at] = sum[1].round();
            blue[at] = sum[2].round();
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_known_similarity_is_recovered(
            scale in 0.05_f64..20.0, angle in -3.2_f64..3.2, tx in -500.0_f64..500.0, ty in -500.0_f64..500.0,
        ) {
            let truth = Similarity { a: scale * angle.cos(), b: scale * angle.sin(), tx, ty };
            let moved = TEMPLATE.map(|p| truth.apply(p.map(f64::from)).map(|v| v as f32));
            let found = Similarity::fit(&TEMPLATE, &moved).unwrap();
            for p in TEMPLATE {
                let (want, got) = (truth.apply(p.map(f64::from)), found.apply(p.map(f64::from)));
                prop_assert!((want[0] - got[0]).abs() < 1e-2 && (want[1] - got[1]).abs() < 1e-2);
            }
        }

        #[test]
        fn no_other_similarity_fits_better(
            points in prop::array::uniform5(prop::array::uniform2(0.0_f32..200.0)),
            nudge in prop::array::uniform4(-0.2_f64..0.2),
        ) {
            let Some(best) = Similarity::fit(&points, &TEMPLATE) else { return Ok(()) };
            let error = |s: &Similarity| -> f64 {
                points.iter().zip(&TEMPLATE).map(|(p, t)| {
                    let [x, y] = s.apply(p.map(f64::from));
                    (x - f64::from(t[0])).powi(2) + (y - f64::from(t[1])).powi(2)
                }).sum()
            };
            let [a, b, tx, ty] = nudge;
            let other = Similarity { a: best.a + a, b: best.b + b, tx: best.tx + tx, ty: best.ty + ty };
            prop_assert!(error(&best) <= error(&other) + 1e-6);
        }

        #[test]
        fn the_inverse_undoes_the_transform(
            a in 0.1_f64..5.0, b in -5.0_f64..5.0, tx in -99.0_f64..99.0, x in -300.0_f64..300.0, y in -300.0_f64..300.0,
        ) {
            let there = Similarity { a, b, tx, ty: -tx };
            let [bx, by] = there.inverse().unwrap().apply(there.apply([x, y]));
            prop_assert!((bx - x).abs() < 1e-6 && (by - y).abs() < 1e-6);
        }
    }

    #[test]
    fn samples_between_pixels_are_rounded_to_whole_levels() {
        let image = RgbImage::from_fn(200, 200, |x, y| image::Rgb([x as u8, y as u8, (x + y) as u8 / 2]));
        let landmarks = TEMPLATE.map(|[x, y]| [1.3 * x + 3.7, 1.3 * y + 9.1]);
        let mut out = vec![-1.0; 3 * SIDE * SIDE];
        align(&image, &landmarks, &mut out).unwrap();
        assert!(out.iter().all(|level| level.fract() == 0.0 && (0.0..=255.0).contains(level)));
        let at = |channel: usize, x: usize, y: usize| out[channel * SIDE * SIDE + y * SIDE + x];
        assert_eq!((at(0, 40, 30), at(1, 40, 30)), (56.0, 48.0), "1.3 * 40 + 3.7 and 1.3 * 30 + 9.1");
    }

    #[test]
    fn coincident_landmarks_are_rejected() {
        let image = RgbImage::new(10, 10);
        assert_eq!(align(&image, &[[3.0, 3.0]; 5], &mut vec![0.0; 3 * SIDE * SIDE]), None);
        assert_eq!(align(&image, &[[f32::NAN; 2]; 5], &mut vec![0.0; 3 * SIDE * SIDE]), None);
    }

    #[test]
    fn an_aligned_face_is_copied_and_the_outside_is_black() {
        let image = RgbImage::from_fn(SIDE as u32, 60, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let mut out = vec![-1.0; 3 * SIDE * SIDE];
        align(&image, &TEMPLATE, &mut out).unwrap();
        let at = |channel: usize, x: usize, y: usize| out[channel * SIDE * SIDE + y * SIDE + x];
        assert_eq!((at(0, 40, 30), at(1, 40, 30), at(2, 40, 30)), (40.0, 30.0, 7.0));
        assert_eq!((at(0, 40, 90), at(1, 40, 90), at(2, 40, 90)), (0.0, 0.0, 0.0));
    }
}

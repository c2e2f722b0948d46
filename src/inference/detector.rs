//! Detects faces and their landmarks with YuNet (Wu et al. 2023), as published in the OpenCV Zoo.

use std::path::Path;

use anyhow::{Context as _, bail};
use image::RgbImage;
use ort::{session::Session, value::TensorRef};

use super::{
    runtime,
    vision::{planes, scale::Scaler},
};
use crate::{recognition::overlap, settings};

/// Cell sizes of the three output grids, in pixels of the input.
const STRIDES: [usize; 3] = [8, 16, 32];
/// The input's width and height are multiples of the largest cell.
const MULTIPLE: u32 = 32;

/// Width and height of the image of the warm-up: no photo is analysed at a larger size by default.
const WARM_UP_SIDE: u32 = 640;

/// A detected face. Coordinates are pixels of the image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Detection {
    /// `[x, y, width, height]`; may extend beyond the image.
    pub(super) bbox: [f32; 4],
    /// Right eye, left eye, nose, right and left corner of the mouth.
    pub(super) landmarks: [[f32; 2]; 5],
    /// Confidence, 0 to 1.
    pub(super) score: f32,
}

impl Detection {
    /// Returns the area of the box, in square pixels.
    fn area(&self) -> f32 {
        self.bbox[2] * self.bbox[3]
    }
}

/// A YuNet session, and the buffers that it reuses.
pub(super) struct Detector {
    session: Session,
    /// Width and height of the input, if the model takes one size only.
    fixed: Option<(u32, u32)>,
    min_score: f32,
    max_overlap: f32,
    max_side: u32,
    /// The model's input, planar BGR.
    input: Vec<f32>,
    scaler: Scaler,
}

impl Detector {
    /// Loads the model and runs it once on a large image, so that the memory for the first photo is allocated.
    ///
    /// # Errors
    /// The runtime or the model cannot be used; the message says what to do.
    pub(super) fn load(settings: &settings::Recognition) -> anyhow::Result<Self> {
        let session = runtime::session(&settings.runtime, &settings.detector, "recognition.detector")?;
        let fixed = check_model(&session).with_context(|| not_yunet(&settings.detector))?;
        let mut detector = Self {
            session,
            fixed,
            min_score: settings.detector_score,
            max_overlap: settings.detector_nms,
            max_side: settings.detector_side,
            input: Vec::new(),
            scaler: Scaler::default(),
        };
        let side = WARM_UP_SIDE.min(settings.detector_side);
        detector.detect(&RgbImage::new(side, side))?;
        Ok(detector)
    }

    /// Returns all faces, largest first.
    ///
    /// # Errors
    /// The model fails.
    pub(super) fn detect(&mut self, image: &RgbImage) -> anyhow::Result<Vec<Detection>> {
        let (width, height) = self.fit(image.width(), image.height());
        let padded = self.fixed.unwrap_or((width.next_multiple_of(MULTIPLE), height.next_multiple_of(MULTIPLE)));
        let pixels: &[u8] = if (width, height) == image.dimensions() {
            image.as_raw()
        } else {
            self.scaler.scale(image, (width, height))?
        };
        planes::fill_bgr(&mut self.input, pixels, width as usize, padded);

        let shape = [1, 3, padded.1 as usize, padded.0 as usize];
        let outputs = self.session.run(ort::inputs![TensorRef::from_array_view((shape, self.input.as_slice()))?])?;
        let mut found = Vec::new();
        for stride in STRIDES {
            let values = |name: &str| -> ort::Result<&[f32]> {
                Ok(outputs[format!("{name}_{stride}").as_str()].try_extract_tensor::<f32>()?.1)
            };
            let grid = Grid { stride, columns: padded.0 as usize / stride, min_score: self.min_score };
            grid.decode(values("cls")?, values("obj")?, values("bbox")?, values("kps")?, &mut found);
        }
        drop(outputs);

        let mut kept = suppress(found, self.max_overlap);
        let (x, y) = (image.width() as f32 / width as f32, image.height() as f32 / height as f32);
        for face in &mut kept {
            let [bx, by, bw, bh] = face.bbox;
            face.bbox = [bx * x, by * y, bw * x, bh * y];
            face.landmarks = face.landmarks.map(|[lx, ly]| [lx * x, ly * y]);
        }
        kept.sort_by(|a, b| b.area().total_cmp(&a.area()));
        Ok(kept)
    }

    /// Returns the size at which an image is analysed: its own, or scaled down to the longest side allowed.
    fn fit(&self, width: u32, height: u32) -> (u32, u32) {
        let (room_x, room_y) = self.fixed.unwrap_or((self.max_side, self.max_side));
        let (room_x, room_y) = (room_x.min(self.max_side), room_y.min(self.max_side));
        let scale = (f64::from(room_x) / f64::from(width)).min(f64::from(room_y) / f64::from(height)).min(1.0);
        let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
        (side(width), side(height))
    }
}

fn not_yunet(model: &Path) -> String {
    format!("{} (recognition.detector) is not a YuNet model", model.display())
}

/// Checks inputs and outputs. Returns width and height of the input if the model takes one size only.
fn check_model(session: &Session) -> anyhow::Result<Option<(u32, u32)>> {
    for name in ["cls", "obj", "bbox", "kps"] {
        for stride in STRIDES {
            let wanted = format!("{name}_{stride}");
            if !session.outputs().iter().any(|o| o.name() == wanted) {
                bail!("it has no output {wanted}");
            }
        }
    }
    let [input] = session.inputs() else { bail!("it has {} inputs, not one", session.inputs().len()) };
    match input.dtype().tensor_shape().map(|s| &s[..]) {
        Some([_, 3, h, w]) if *h > 0 && *w > 0 => Ok(Some((*w as u32, *h as u32))),
        Some([_, 3, _, _]) => Ok(None),
        other => bail!("its input is {other:?}, not [1, 3, H, W]"),
    }
}

/// One output grid of the model.
struct Grid {
    stride: usize,
    columns: usize,
    min_score: f32,
}

impl Grid {
    /// Adds the faces of the grid's cells. `class` and `object` have one value per cell, `boxes` four (offset of the
    /// centre, logarithm of the size, in cells), and `points` ten (offsets in cells).
    fn decode(&self, class: &[f32], object: &[f32], boxes: &[f32], points: &[f32], found: &mut Vec<Detection>) {
        let size = self.stride as f32;
        for (cell, (c, o)) in class.iter().zip(object).enumerate() {
            let score = (c.clamp(0.0, 1.0) * o.clamp(0.0, 1.0)).sqrt();
            if score <= self.min_score {
                continue;
            }
            let (column, row) = ((cell % self.columns) as f32, (cell / self.columns) as f32);
            let b = &boxes[4 * cell..4 * cell + 4];
            let (width, height) = (b[2].exp() * size, b[3].exp() * size);
            let (x, y) = ((column + b[0]) * size - width / 2.0, (row + b[1]) * size - height / 2.0);
            let p = &points[10 * cell..10 * cell + 10];
            let landmarks = std::array::from_fn(|i| [(column + p[2 * i]) * size, (row + p[2 * i + 1]) * size]);
            found.push(Detection { bbox: [x, y, width, height], landmarks, score });
        }
    }
}

/// Suppresses non-maxima greedily: of faces that overlap by more than `max_overlap` (intersection over union), only the
/// one with the highest score is kept.
fn suppress(mut found: Vec<Detection>, max_overlap: f32) -> Vec<Detection> {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for face in found {
        if kept.iter().all(|k| overlap(&k.bbox, &face.bbox) <= max_overlap) {
            kept.push(face);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn face(x: f32, y: f32, side: f32, score: f32) -> Detection {
        Detection { bbox: [x, y, side, side], landmarks: [[x, y]; 5], score }
    }

    proptest! {
        #[test]
        fn suppression_keeps_the_best_and_nothing_that_overlaps(
            boxes in prop::collection::vec((0.0_f32..100.0, 0.0_f32..100.0, 5.0_f32..40.0, 0.6_f32..1.0), 0..40),
        ) {
            let found: Vec<_> = boxes.into_iter().map(|(x, y, side, score)| face(x, y, side, score)).collect();
            let kept = suppress(found.clone(), 0.3);
            for (i, a) in kept.iter().enumerate() {
                prop_assert!(kept[i + 1..].iter().all(|b| overlap(&a.bbox, &b.bbox) <= 0.3));
            }
            for lost in found.iter().filter(|f| !kept.contains(f)) {
                prop_assert!(kept.iter().any(|k| k.score >= lost.score && overlap(&k.bbox, &lost.bbox) > 0.3));
            }
        }
    }

    #[test]
    fn a_cell_is_decoded_to_pixels_of_the_input() {
        let grid = Grid { stride: 16, columns: 2, min_score: 0.6 };
        let mut found = Vec::new();
        let (boxes, points) = ([vec![0.0; 12], vec![0.5, 0.5, 0.0, 2.0_f32.ln()]].concat(), vec![0.25; 40]);
        grid.decode(&[0.1, 0.1, 0.1, 0.81], &[1.0; 4], &boxes, &points, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bbox.map(f32::round), [16.0, 8.0, 16.0, 32.0]);
        assert_eq!(found[0].landmarks[0], [20.0, 20.0]);
        assert!((found[0].score - 0.9).abs() < 1e-6);
    }
}

//! Classifies images with any ONNX classifier that has a labels file.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use image::RgbImage;
use ort::{session::Session, value::TensorRef};

use super::{
    Recogniser,
    face::{internal, millis},
    gallery::Gallery,
    runtime,
    vision::{decode, planes, scale::Scaler},
};
use crate::{
    job::Failure,
    recognition::{Class, GalleryName, Recognition, Timings},
    settings,
};

/// Width and height of the input for a model that takes any size: those of ImageNet classifiers.
const DEFAULT_SIDE: u32 = 224;
/// Size of the centre crop as a fraction of the shorter side: classifiers are evaluated on the central 224 pixels of an
/// image whose shorter side is 256.
const CENTRE: f64 = 224.0 / 256.0;

/// A classifier's session, and the buffers that it reuses.
pub(super) struct Classifier {
    session: Session,
    labels: Vec<String>,
    width: u32,
    height: u32,
    mean: [f32; 3],
    std: [f32; 3],
    top: usize,
    max_pixels: u64,
    /// Planar RGB, normalised.
    input: Vec<f32>,
    scaler: Scaler,
}

impl Classifier {
    /// Loads the model and its labels, and runs the model once.
    ///
    /// # Errors
    /// The runtime, the model or the labels cannot be used; the message says what to do.
    pub(super) fn load(settings: &settings::Recognition) -> anyhow::Result<Self> {
        let session = runtime::session(&settings.runtime, &settings.classifier, "recognition.classifier")?;
        let model = || format!("{} (recognition.classifier) cannot be used", settings.classifier.display());
        let (width, height) = input_size(&session).with_context(model)?;
        let text = std::fs::read_to_string(&settings.labels)
            .with_context(|| format!("the labels {} (recognition.labels) cannot be read", settings.labels.display()))?;
        let mut classifier = Self {
            session,
            labels: text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect(),
            width,
            height,
            mean: settings.classifier_mean,
            std: settings.classifier_std,
            top: settings.classifier_top,
            max_pixels: settings.max_pixels,
            input: vec![0.0; 3 * width as usize * height as usize],
            scaler: Scaler::default(),
        };
        let classes = classifier.classify(&RgbImage::new(width, height)).with_context(model)?.len();
        ensure!(classes > 0, "{} (recognition.classifier) has no classes", settings.classifier.display());
        let labels = classifier.labels.len();
        ensure!(
            labels == classes,
            "{} (recognition.labels) has {labels} labels, one per line, but the model has {classes} classes",
            settings.labels.display()
        );
        Ok(classifier)
    }

    /// Returns the probability of each class.
    fn classify(&mut self, image: &RgbImage) -> anyhow::Result<Vec<f32>> {
        let size = (self.width, self.height);
        let centre = self.scaler.scale_part(image, centre(image.dimensions(), size), size)?;
        planes::fill_normalised_rgb(&mut self.input, centre, self.mean, self.std);
        let shape = [1, 3, self.height as usize, self.width as usize];
        let outputs = self.session.run(ort::inputs![TensorRef::from_array_view((shape, self.input.as_slice()))?])?;
        let scores = outputs[0].try_extract_tensor::<f32>().context("its first output is not a tensor of f32")?.1;
        ensure!(scores.iter().all(|s| s.is_finite()), "its output is not finite");
        Ok(probabilities(scores))
    }
}

/// Returns the central part of an image with the proportions of `to`, as [left, top, width, height] in pixels.
fn centre(image: (u32, u32), to: (u32, u32)) -> [f64; 4] {
    let [width, height, to_width, to_height] = [image.0, image.1, to.0, to.1].map(f64::from);
    let scale = CENTRE * (width / to_width).min(height / to_height);
    let (part_x, part_y) = (to_width * scale, to_height * scale);
    [(width - part_x) / 2.0, (height - part_y) / 2.0, part_x, part_y]
}

impl Recogniser for Classifier {
    #[expect(clippy::disallowed_methods, reason = "measures its steps")]
    fn recognise(&mut self, image: &[u8], gallery: &Gallery, _embeddings: bool) -> Result<Recognition, Failure> {
        let start = Instant::now();
        let pixels = decode::decode(image, self.max_pixels)?;
        let decoded = Instant::now();
        let probabilities = self.classify(&pixels).map_err(internal)?;

        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let class = |&i: &usize| Class { label: self.labels[i].clone(), probability: probabilities[i] };
        let classes: Vec<Class> = order.iter().take(self.top).map(class).collect();
        Ok(Recognition {
            label: classes[0].label.clone(), // load() has checked that there is at least one class
            faces: Vec::new(),
            classes,
            width: pixels.width(),
            height: pixels.height(),
            gallery: GalleryName::default(),
            gallery_version: gallery.version,
            model: None,
            timings: Timings {
                decode_ms: millis(decoded - start),
                detect_ms: millis(decoded.elapsed()),
                embed_ms: 0.0,
            },
        })
    }
}

/// Returns the width and height of the model's input.
fn input_size(session: &Session) -> anyhow::Result<(u32, u32)> {
    let [input] = session.inputs() else { bail!("it has {} inputs, not one", session.inputs().len()) };
    let side = |d: i64| if d > 0 { d as u32 } else { DEFAULT_SIDE };
    match input.dtype().tensor_shape().map(|s| &s[..]) {
        Some([batch, channels, h, w]) if *batch <= 1 && (*channels == 3 || *channels < 0) => Ok((side(*w), side(*h))),
        other => bail!("its input is {other:?}, not planar RGB [1, 3, H, W]"),
    }
}

/// Returns the scores if they are probabilities, otherwise their softmax.
fn probabilities(scores: &[f32]) -> Vec<f32> {
    let sum: f32 = scores.iter().sum();
    if (sum - 1.0).abs() < 1e-3 && scores.iter().all(|s| (0.0..=1.0).contains(s)) {
        return scores.to_vec();
    }
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|s| (s - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_become_probabilities_and_probabilities_are_unchanged() {
        assert_eq!(probabilities(&[0.25, 0.75]), [0.25, 0.75]);
        let soft = probabilities(&[1000.0, 1000.0 + 3.0_f32.ln(), -5.0]);
        assert!((soft[0] - 0.25).abs() < 1e-4 && (soft[1] - 0.75).abs() < 1e-4 && soft[2] == 0.0);
    }
}

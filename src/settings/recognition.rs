//! `[recognition]`: models and thresholds.

use std::path::PathBuf;

use super::layers::{Layers, SettingsError};

/// The recognisers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecogniserKind {
    /// Finds and names faces.
    Face,
    /// Classifies whole images.
    Classifier,
}

/// `[recognition]`.
#[derive(Clone, Debug)]
pub struct Recognition {
    /// Which recogniser.
    pub kind: RecogniserKind,
    /// Similarity from which a face is named, -1 to 1.
    pub threshold: f32,
    /// The shared library of ONNX Runtime.
    pub runtime: PathBuf,
    /// Model that finds faces.
    pub detector: PathBuf,
    /// Model that embeds faces.
    pub embedder: PathBuf,
    /// Least score of a face, 0 to 1.
    pub detector_score: f32,
    /// Most overlap of two faces (intersection over union), 0 to 1.
    pub detector_nms: f32,
    /// Longest side at which an image is looked at, pixels.
    pub detector_side: u32,
    /// Most faces of one image, largest first.
    pub max_faces: usize,
    /// Largest image, pixels.
    pub max_pixels: u64,
    /// Model that classifies images.
    pub classifier: PathBuf,
    /// Labels of its classes, one per line.
    pub labels: PathBuf,
    /// Mean of its normalisation, by channel.
    pub classifier_mean: [f32; 3],
    /// Standard deviation of its normalisation, by channel.
    pub classifier_std: [f32; 3],
    /// Classes in an answer.
    pub classifier_top: usize,
}

impl Recognition {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        let kinds = [("face", RecogniserKind::Face), ("classifier", RecogniserKind::Classifier)];
        let recognition = Self {
            kind: l.choice("recognition.kind", &kinds)?,
            threshold: l.number("recognition.threshold", -1.0, 1.0)?,
            runtime: l.path("recognition.runtime")?,
            detector: l.path("recognition.detector")?,
            embedder: l.path("recognition.embedder")?,
            detector_score: l.number("recognition.detector_score", 0.0, 1.0)?,
            detector_nms: l.number("recognition.detector_nms", 0.0, 1.0)?,
            detector_side: l.count("recognition.detector_side", 64, 4096)? as u32,
            max_faces: l.count("recognition.max_faces", 1, 1000)?,
            max_pixels: l.count("recognition.max_pixels", 10_000, 1_000_000_000)? as u64,
            classifier: l.path("recognition.classifier")?,
            labels: l.path("recognition.labels")?,
            classifier_mean: l.triple("recognition.classifier_mean", -1e3, 1e3)?,
            classifier_std: l.triple("recognition.classifier_std", 1e-6, 1e3)?,
            classifier_top: l.count("recognition.classifier_top", 1, 1000)?,
        };
        let no_model = recognition.classifier.as_os_str().is_empty() || recognition.labels.as_os_str().is_empty();
        if recognition.kind == RecogniserKind::Classifier && no_model {
            let allowed = "\"face\", unless recognition.classifier and recognition.labels name files";
            return Err(l.invalid("recognition.kind", allowed));
        }
        Ok(recognition)
    }
}

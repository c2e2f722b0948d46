//! `[recognition]`: models and thresholds.

use std::path::{Path, PathBuf};

use super::{
    auto::Auto,
    layers::SettingsError,
    machine::{ASSETS, Int8, Machine},
    reader::Reader,
};

/// ONNX Runtime, as `make setup` installs it.
const RUNTIME: &str = ".assets/onnxruntime/libonnxruntime.so";
/// YuNet, as `make setup` installs it.
const YUNET: &str = ".assets/models/face_detection_yunet_2023mar.onnx";
/// SFace in fp32, as `make setup` installs it.
pub const SFACE_FP32: &str = ".assets/models/face_recognition_sface_2021dec.onnx";
/// SFace in int8, as `make setup` installs it.
pub const SFACE_INT8: &str = ".assets/models/face_recognition_sface_2021dec_int8.onnx";

/// What is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecogniserKind {
    /// Faces, by the gallery.
    Face,
    /// The class of a whole image.
    Classifier,
}

/// When a face gets the nearest person's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// At or above this cosine similarity, -1 to 1.
    Similarity(f32),
    /// At or above the similarity that at most this share of strangers reaches, 0 to 1, by what a gallery's people say.
    MaxFalseAccept(f64),
}

impl From<f32> for Threshold {
    fn from(similarity: f32) -> Self {
        Self::Similarity(similarity)
    }
}

impl Threshold {
    fn read(r: &Reader<'_>) -> Result<Self, SettingsError> {
        let rate = r.number("recognition.max_false_accept", 1e-6..=0.1)?;
        if r.is_auto("recognition.threshold") {
            return Ok(Self::MaxFalseAccept(rate));
        }
        let similarity = r.number("recognition.threshold", -1.0..=1.0);
        let similarity =
            similarity.map_err(|_| r.invalid("recognition.threshold", "\"auto\" or a number from -1 to 1"))?;
        Ok(Self::Similarity(similarity as f32))
    }
}

/// Settings of recognition.
#[derive(Clone, Debug)]
pub struct Recognition {
    /// What is recognised.
    pub kind: RecogniserKind,
    /// When a face gets the nearest person's name.
    pub threshold: Threshold,
    /// ONNX Runtime's shared library.
    pub runtime: PathBuf,
    /// Model that finds faces.
    pub detector: PathBuf,
    /// Model that embeds faces.
    pub embedder: PathBuf,
    /// Whether "auto" has chosen the embedder, so that each machine may have a different one.
    pub embedder_is_auto: bool,
    /// SFace in fp32 and in int8, as installed.
    sface: [PathBuf; 2],
    /// Lowest confidence of a face, 0 to 1.
    pub detector_score: f32,
    /// Largest overlap (intersection over union) of two faces, 0 to 1.
    pub detector_nms: f32,
    /// Longer side in pixels to which a larger image is scaled for detection.
    pub detector_side: u32,
    /// Maximum number of faces in the result of one image, largest first.
    pub max_faces: usize,
    /// Largest image in pixels.
    pub max_pixels: u64,
    /// Model of the classifier; empty if there is none.
    pub classifier: PathBuf,
    /// File with the labels of its classes, one per line; empty if there is none.
    pub labels: PathBuf,
    /// Mean of the classifier's input for red, green and blue, in units of the full scale.
    pub classifier_mean: [f32; 3],
    /// Standard deviation of the classifier's input for red, green and blue, in units of the full scale.
    pub classifier_std: [f32; 3],
    /// Number of classes in a result, best first.
    pub classifier_top: usize,
}

/// Returns where a file that set-up installs is on a machine.
fn installed(machine: Machine, file: &str) -> PathBuf {
    let Some(folder) = machine.installed else { return file.into() };
    folder.join(Path::new(file).strip_prefix(ASSETS).expect("a constant below that folder"))
}

/// Returns a file that set-up installs, as the meaning of "auto".
fn installed_or(machine: Machine, file: &str) -> Auto<Option<PathBuf>> {
    let reason = if machine.installed.is_some() { "as installed" } else { "as set up" };
    Auto::new(Some(installed(machine, file)), reason)
}

/// Returns the embedder for the CPU of a machine.
fn embedder(machine: Machine) -> Auto<Option<PathBuf>> {
    let (file, reason) = match machine.int8 {
        Int8::Avx512Vnni => (SFACE_INT8, "because the CPU has AVX-512 VNNI"),
        Int8::AvxVnni => (SFACE_INT8, "because the CPU has AVX-VNNI"),
        Int8::NoVnni => (SFACE_FP32, "because the CPU has no VNNI"),
        Int8::NotX86 => (SFACE_FP32, "because int8 is measured on x86-64 only"),
    };
    Auto::new(Some(installed(machine, file)), reason)
}

impl Recognition {
    pub(super) fn read(r: &Reader<'_>, machine: Machine) -> Result<Self, SettingsError> {
        let kinds = [("face", RecogniserKind::Face), ("classifier", RecogniserKind::Classifier)];
        let recognition = Self {
            kind: r.choice("recognition.kind", &kinds)?,
            threshold: Threshold::read(r)?,
            runtime: r.path_or_auto("recognition.runtime", installed_or(machine, RUNTIME))?.unwrap_or_default(),
            detector: r.path_or_auto("recognition.detector", installed_or(machine, YUNET))?.unwrap_or_default(),
            embedder: r.path_or_auto("recognition.embedder", embedder(machine))?.unwrap_or_default(),
            embedder_is_auto: r.is_auto("recognition.embedder"),
            sface: [SFACE_FP32, SFACE_INT8].map(|file| installed(machine, file)),
            detector_score: r.number("recognition.detector_score", 0.0..=1.0)? as f32,
            detector_nms: r.number("recognition.detector_nms", 0.0..=1.0)? as f32,
            detector_side: r.count("recognition.detector_side", 64..=4096)? as u32,
            max_faces: r.count("recognition.max_faces", 1..=1000)?,
            max_pixels: r.count("recognition.max_pixels", 10_000..=1_000_000_000)? as u64,
            classifier: r.path("recognition.classifier")?,
            labels: r.path("recognition.labels")?,
            classifier_mean: r.triple("recognition.classifier_mean", -1e3..=1e3)?,
            classifier_std: r.triple("recognition.classifier_std", 1e-6..=1e3)?,
            classifier_top: r.count("recognition.classifier_top", 1..=1000)?,
        };
        let no_model = recognition.classifier.as_os_str().is_empty() || recognition.labels.as_os_str().is_empty();
        if recognition.kind == RecogniserKind::Classifier && no_model {
            let allowed = "\"face\", unless recognition.classifier and recognition.labels are set";
            return Err(r.invalid("recognition.kind", allowed));
        }
        Ok(recognition)
    }

    /// Returns these settings with the embedder that computes correctly on any CPU; `None` if it is in use already, or
    /// if the embedder is not left to "auto".
    pub fn with_embedder_for_any_cpu(&self) -> Option<Self> {
        let other = self.embedder_is_auto && self.embedder != self.sface[0];
        other.then(|| Self { embedder: self.sface[0].clone(), ..self.clone() })
    }

    /// Returns SFace in fp32, which computes correctly on any CPU, as installed.
    pub fn sface_fp32(&self) -> &Path {
        &self.sface[0]
    }

    /// Returns the files that workers load. Which embedder "auto" chooses depends on the worker's CPU, so all that it
    /// may choose are included.
    pub fn files(&self) -> Vec<PathBuf> {
        match self.kind {
            RecogniserKind::Classifier => vec![self.runtime.clone(), self.classifier.clone(), self.labels.clone()],
            RecogniserKind::Face if self.embedder_is_auto => {
                [self.runtime.clone(), self.detector.clone()].into_iter().chain(self.sface.clone()).collect()
            }
            RecogniserKind::Face => vec![self.runtime.clone(), self.detector.clone(), self.embedder.clone()],
        }
    }
}

//! What a recognition says: the words that inference, queues, store, HTTP and page share.

use serde::{Deserialize, Serialize};

/// The label of a person nobody in the gallery resembles enough.
pub const UNKNOWN: &str = "unknown";
/// The label of an image without a face.
pub const NO_FACE: &str = "no face";

/// One face. Coordinates are pixels of the original image as it is looked at (EXIF orientation applied).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// `[x, y, width, height]`.
    pub bbox: [f32; 4],
    /// Right eye, left eye, nose, right and left corner of the mouth, each `[x, y]`.
    pub landmarks: [[f32; 2]; 5],
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// The person, or `unknown`.
    pub name: String,
    /// Cosine similarity to the nearest photo in the gallery, -1 to 1; `None` if the gallery is empty.
    pub similarity: Option<f32>,
    /// Unit length; only where it was asked for ([`crate::wire::Task::Embed`]).
    pub embedding: Option<Vec<f32>>,
}

/// A class of an image classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    pub label: String,
    /// 0 to 1.
    pub probability: f32,
}

/// Everything seen in one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// The name of the largest face, `unknown`, `no face`, or the first class of a classifier.
    pub label: String,
    /// Largest first.
    pub faces: Vec<Face>,
    /// A classifier's best classes, best first.
    pub classes: Vec<Class>,
    /// Pixels of the original image as it is looked at.
    pub width: u32,
    pub height: u32,
    /// Version of the gallery that named the faces.
    pub gallery_version: u64,
    /// Milliseconds spent decoding, detecting, and aligning + embedding + naming.
    pub timings: Timings,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    pub decode_ms: f32,
    pub detect_ms: f32,
    pub embed_ms: f32,
}

impl Timings {
    pub fn total(&self) -> std::time::Duration {
        let ms = (self.decode_ms + self.detect_ms + self.embed_ms).max(0.0);
        std::time::Duration::try_from_secs_f32(ms / 1e3).unwrap_or_default()
    }
}

/// Why an image has no recognition; each kind has its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Not an image, or of a format that is not read: 415.
    Unsupported,
    /// Broken bytes: 422.
    Damaged,
    /// More pixels or memory than allowed: 413.
    TooLarge,
    /// A fault of ours: 500.
    Internal,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// For the person who sent the image: what is wrong and what to do.
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What is kept of a job under its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobResult {
    pub id: String,
    /// The file name it came with, made safe.
    pub file: String,
    pub status: Status,
    pub recognition: Option<Recognition>,
    pub failure: Option<Failure>,
    /// The instance that did it.
    pub worker: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub submitted_ms: u64,
    pub finished_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Pending,
    Done,
    Failed,
}

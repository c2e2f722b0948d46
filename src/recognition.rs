//! The recognition of an image: the first kind of job, and the types that inference, HTTP and the command line share.

use serde::{Deserialize, Serialize};

use crate::job::JobKind;

/// Names the people in an image, and keeps the image with its label and result.
pub const RECOGNISE: JobKind = JobKind(0);
/// Answers with the embeddings of the faces in an image, and keeps nothing.
pub const EMBED: JobKind = JobKind(1);

/// The label of a face that resembles no person of the gallery enough.
pub const UNKNOWN: &str = "unknown";
/// The label of an image without a face.
pub const NO_FACE: &str = "no face";

/// One face. Coordinates are in pixels of the upright image (EXIF orientation applied).
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
    /// Unit length; only in replies to [`EMBED`].
    pub embedding: Option<Vec<f32>>,
}

/// A class of an image classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Class {
    /// The class's name.
    pub label: String,
    /// 0 to 1.
    pub probability: f32,
}

/// Everything recognised in one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// The name of the largest face, `unknown`, `no face`, or the first class of a classifier.
    pub label: String,
    /// Largest first.
    pub faces: Vec<Face>,
    /// A classifier's best classes, best first.
    pub classes: Vec<Class>,
    /// Width of the upright image, in pixels.
    pub width: u32,
    /// Height of the upright image, in pixels.
    pub height: u32,
    /// Version of the gallery that named the faces.
    pub gallery_version: u64,
    /// How long each step took.
    pub timings: Timings,
}

/// How long the steps of a recognition took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Milliseconds spent decoding.
    pub decode_ms: f32,
    /// Milliseconds spent detecting faces, or classifying.
    pub detect_ms: f32,
    /// Milliseconds spent aligning, embedding and naming.
    pub embed_ms: f32,
}

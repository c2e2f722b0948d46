//! Image recognition: its kinds of job, and the types that inference, HTTP and the command line share.

mod task;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use task::{MAX_CANDIDATES, MAX_CANDIDATES_IN_ALL, Task};

use crate::job::JobKind;

/// Names the people in an image, and keeps the image with its label and result.
pub const RECOGNISE: JobKind = JobKind(0);
/// Returns the embeddings of the faces in an image, and keeps nothing.
pub const EMBED: JobKind = JobKind(1);

/// The label of a face that is not similar enough to any person in the gallery.
pub const UNKNOWN: &str = "unknown";
/// The label of an image without a face.
pub const NO_FACE: &str = "no face";

/// Suffix of the ids of a model's int8 variants.
const INT8: &str = "-int8";
/// Longest id of a model, and longest name of a gallery, in characters.
const MAX_ID: usize = 64;

/// Identifies the model that computed an embedding: 1 to 64 of the characters a-z A-Z 0-9 . _ -
///
/// Embeddings can be compared if their models belong to the same family, that is, a model and its int8
/// variant: `sface-2021dec` and `sface-2021dec-int8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(String);

impl ModelId {
    /// Creates an id from trusted text: a constant of this program, or the checksum of a model's file.
    pub(crate) fn known(id: &str) -> Self {
        debug_assert!(is_id(id), "{id:?}");
        Self(id.to_owned())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether embeddings of the two models can be compared.
    pub fn is_comparable_to(&self, other: &Self) -> bool {
        self.family() == other.family()
    }

    fn family(&self) -> &str {
        self.0.strip_suffix(INT8).unwrap_or(&self.0)
    }
}

impl std::fmt::Display for ModelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ModelId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        if is_id(&id) {
            return Ok(Self(id));
        }
        Err(format!("{id:?} is not a valid id of a model: 1 to {MAX_ID} of the characters a-z A-Z 0-9 . _ -"))
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0
    }
}

fn is_id(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (1..=MAX_ID).contains(&text.len()) && text.chars().all(allowed)
}

/// The name of a gallery: 1 to 64 of the characters a-z A-Z 0-9 . _ - and not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct GalleryName(String);

/// The gallery that is used if none is named.
const DEFAULT_GALLERY: &str = "default";

impl GalleryName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is the gallery that is used if none is named.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT_GALLERY
    }
}

impl Default for GalleryName {
    fn default() -> Self {
        Self(DEFAULT_GALLERY.to_owned())
    }
}

impl std::fmt::Display for GalleryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for GalleryName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        if is_id(&name) && name != "." && name != ".." {
            return Ok(Self(name));
        }
        Err(format!("{name:?} is not a valid name of a gallery: 1 to {MAX_ID} of the characters a-z A-Z 0-9 . _ -"))
    }
}

impl std::str::FromStr for GalleryName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::try_from(name.to_owned())
    }
}

impl From<GalleryName> for String {
    fn from(name: GalleryName) -> Self {
        name.0
    }
}

/// Checks that embeddings of all these models can be stored together, and returns the first model; `None` if there are
/// none.
///
/// # Errors
/// The models cannot be compared; the message names two of them.
pub fn common_model<'a>(models: impl IntoIterator<Item = &'a ModelId>) -> Result<Option<ModelId>, String> {
    let mut models = models.into_iter();
    let Some(first) = models.next() else { return Ok(None) };
    match models.find(|model| !model.is_comparable_to(first)) {
        None => Ok(Some(first.clone())),
        Some(other) => Err(format!(
            "the embeddings come from different models, {first} and {other}, and cannot be compared: use the same \
             embedder (recognition.embedder) on every machine"
        )),
    }
}

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
    /// Cosine similarity to the nearest photo in the gallery, -1 to 1; `None` if the gallery is empty, and in
    /// replies to [`EMBED`].
    pub similarity: Option<f32>,
    /// Unit length; only in replies to [`EMBED`].
    pub embedding: Option<Vec<f32>>,
}

/// Returns the intersection over union of two boxes, each `[x, y, width, height]`.
pub fn overlap(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let span = |i: usize| ((a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i])).max(0.0);
    let both = span(0) * span(1);
    both / (a[2] * a[3] + b[2] * b[3] - both)
}

/// A person whom a face may show.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The person.
    pub name: String,
    /// Cosine similarity to the nearest photo of the person, -1 to 1.
    pub similarity: f32,
}

/// The result of a job that asks for candidates for the faces of an image ([`Task::Identify`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identification {
    /// The faces, with their embeddings.
    pub recognition: Recognition,
    /// For each face, the people who are most similar, the most similar one first, whether or not they are above the
    /// threshold.
    pub candidates: Vec<Vec<Candidate>>,
}

/// A class of an image classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Class {
    /// The class's name.
    pub label: String,
    /// 0 to 1.
    pub probability: f32,
}

/// Everything recognised in one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recognition {
    /// The name of the largest face, `unknown`, `no face`, or a classifier's most probable class.
    pub label: String,
    /// Largest first.
    pub faces: Vec<Face>,
    /// A classifier's top classes, most probable first.
    pub classes: Vec<Class>,
    /// Width of the upright image, in pixels.
    pub width: u32,
    /// Height of the upright image, in pixels.
    pub height: u32,
    /// The gallery that named the faces; the default one in results written by releases that had no other.
    #[serde(default, skip_serializing_if = "GalleryName::is_default")]
    pub gallery: GalleryName,
    /// Version of the gallery.
    pub gallery_version: u64,
    /// The model of the embeddings; `None` from a classifier, and in results written by releases that did not
    /// record it.
    pub model: Option<ModelId>,
    /// How long each step took.
    pub timings: Timings,
}

/// How long the steps of a recognition took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timings {
    /// Milliseconds spent decoding.
    pub decode_ms: f32,
    /// Milliseconds spent detecting faces, or classifying.
    pub detect_ms: f32,
    /// Milliseconds spent aligning, embedding and naming.
    pub embed_ms: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ModelId {
        ModelId::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn variants_of_one_model_can_be_compared_and_other_models_cannot() {
        let (fp32, int8, other) = (id("sface-2021dec"), id("sface-2021dec-int8"), id("ba7816bf8f01cfea"));
        assert!(fp32.is_comparable_to(&int8) && int8.is_comparable_to(&fp32) && int8.is_comparable_to(&int8));
        assert!(!fp32.is_comparable_to(&other) && !other.is_comparable_to(&int8));
        assert_eq!(common_model([&int8, &fp32]), Ok(Some(int8.clone())));
        assert_eq!(common_model([]), Ok(None));
        let error = common_model([&fp32, &int8, &other]).unwrap_err();
        assert!(error.contains("sface-2021dec") && error.contains("ba7816bf8f01cfea"), "{error}");
    }

    #[test]
    fn a_model_id_with_other_characters_or_of_wrong_length_is_rejected() {
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(ModelId::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert_eq!(serde_json::to_string(&id("a.b_c-D7")).unwrap(), "\"a.b_c-D7\"");
        assert!(serde_json::from_str::<ModelId>("\"a b\"").is_err());
    }
}

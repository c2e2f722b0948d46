//! What the endpoints respond with, as the description of the API has it. The tests check each answer against it.

#![expect(dead_code, reason = "describes bodies that depend on the parameters of a request")]

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// The subjects.
#[derive(ToSchema)]
pub struct Subjects {
    subjects: Vec<String>,
}

/// One subject.
#[derive(ToSchema)]
pub struct Subject {
    subject: String,
}

/// Whether a subject was renamed.
#[derive(ToSchema)]
pub struct Updated {
    updated: bool,
}

/// How many were deleted.
#[derive(ToSchema)]
pub struct DeletedCount {
    deleted: usize,
}

/// An example of a subject.
#[derive(ToSchema)]
pub struct Example {
    image_id: String,
    subject: String,
}

/// A page of examples.
#[derive(ToSchema)]
pub struct Examples {
    faces: Vec<Example>,
    page_number: usize,
    page_size: usize,
    total_pages: usize,
    total_elements: usize,
}

/// Where a face is.
#[derive(ToSchema)]
pub struct FaceBox {
    /// The detector's confidence.
    probability: f32,
    x_min: u32,
    x_max: u32,
    y_min: u32,
    y_max: u32,
}

/// A subject that is similar to a face.
#[derive(ToSchema)]
pub struct SimilarSubject {
    subject: String,
    similarity: f32,
}

/// A face. Members that were not asked for are missing.
#[derive(ToSchema)]
pub struct DescribedFace {
    r#box: FaceBox,
    #[schema(nullable = false)]
    embedding: Option<Vec<f32>>,
    #[schema(nullable = false)]
    landmarks: Option<Vec<Vec<i32>>>,
    /// Milliseconds by plugin.
    #[schema(nullable = false)]
    execution_time: Option<BTreeMap<String, f32>>,
    /// From recognition.
    #[schema(nullable = false)]
    subjects: Option<Vec<SimilarSubject>>,
    /// From verification by an example.
    #[schema(nullable = false)]
    subject: Option<String>,
    /// From verification.
    #[schema(nullable = false)]
    similarity: Option<f32>,
}

/// The faces of a photo.
#[derive(ToSchema)]
pub struct DescribedFaces {
    result: Vec<DescribedFace>,
    /// The versions by plugin.
    #[schema(nullable = false)]
    plugins_versions: Option<BTreeMap<String, String>>,
}

/// The comparison of two photos.
#[derive(ToSchema)]
pub struct Comparison {
    source_image_face: DescribedFace,
    face_matches: Vec<DescribedFace>,
    /// The versions by plugin.
    #[schema(nullable = false)]
    plugins_versions: Option<BTreeMap<String, String>>,
}

/// The comparisons, of which there is one.
#[derive(ToSchema)]
pub struct Comparisons {
    result: Vec<Comparison>,
}

/// Embeddings, each with the subjects that are similar to it.
#[derive(ToSchema)]
pub struct RecognisedEmbeddings {
    result: Vec<RecognisedEmbedding>,
}

/// An embedding with the subjects that are similar to it.
#[derive(ToSchema)]
pub struct RecognisedEmbedding {
    embedding: Vec<f32>,
    similarities: Vec<SimilarSubject>,
}

/// Embeddings, each with its similarity to another.
#[derive(ToSchema)]
pub struct ComparedEmbeddings {
    result: Vec<ComparedEmbedding>,
}

/// An embedding with its similarity to another.
#[derive(ToSchema)]
pub struct ComparedEmbedding {
    embedding: Vec<f32>,
    similarity: f32,
}

/// Embeddings to recognise or to verify.
#[derive(ToSchema)]
pub struct GivenEmbeddings {
    embeddings: Vec<Vec<f32>>,
}

/// Embeddings to compare with another.
#[derive(ToSchema)]
pub struct GivenVerification {
    source: Vec<f32>,
    targets: Vec<Vec<f32>>,
}

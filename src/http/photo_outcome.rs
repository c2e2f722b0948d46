//! What became of a photo of a person to add.

use serde::Serialize;
use utoipa::ToSchema;

use crate::inference::photo_quality::PhotoWarning;

/// The outcome for one photo of a new person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PhotoOutcome {
    pub file: String,
    pub added: bool,
    /// Number of faces found; the largest one is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub faces: Option<usize>,
    /// Why it may not be a good photo to know the person by, although it was added.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub warnings: Vec<PhotoWarning>,
    /// Why it was not added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
}

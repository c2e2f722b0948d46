//! What became of a photo of a person to add.

use serde::Serialize;
use utoipa::ToSchema;

/// The outcome for one photo of a new person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PhotoOutcome {
    pub file: String,
    pub added: bool,
    /// Number of faces found; the largest one is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub faces: Option<usize>,
    /// Why it was not added.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
}

//! The errors, as the description of the API has them.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema,
    openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, schema::Schema},
};

use crate::http::photo_outcome::PhotoOutcome;

/// Problem details (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "describes what Problem::to_json returns")]
pub struct ProblemDetails {
    /// A URI that names the kind of problem.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong and what to do about it.
    #[schema(min_length = 1)]
    detail: String,
    /// The job's id, if there is one.
    #[schema(nullable = false)]
    id: Option<String>,
    /// What became of each photo of a person to add.
    #[schema(nullable = false)]
    photos: Option<Vec<PhotoOutcome>>,
}

/// An error in the form of CompreFace.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what Problem::respond sends")]
pub struct CompreFaceError {
    /// What is wrong.
    message: String,
    /// The code, as CompreFace defines it.
    code: u16,
}

fn responses(media: &str, schema: RefOr<Schema>) -> BTreeMap<String, RefOr<Response>> {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description("An error").content(media, content).build();
    BTreeMap::from([("default".to_owned(), RefOr::T(response))])
}

/// Every error, as problem details.
pub struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses("application/problem+json", Ref::from_schema_name("Problem").into())
    }
}

/// Every error, in the form of CompreFace.
pub struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses("application/json", Ref::from_schema_name("CompreFaceError").into())
    }
}

/// Every error, as one line of text.
pub struct ErrorLine;

impl IntoResponses for ErrorLine {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        responses("text/plain", <String as utoipa::PartialSchema>::schema())
    }
}

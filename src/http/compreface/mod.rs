//! `/api/v1`: the REST API of CompreFace 1.2, over the same queue, workers and galleries. `docs/compreface.md` lists its
//! endpoints, and what each does here.
//!
//! A *subject* is a person, an *example* one of their photos, and an API key a token that may be bound to a gallery.

mod bodies;
mod concerned;
mod embeddings;
mod examples;
mod faces;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod images;
mod json;
mod params;
mod refusal;
mod routes;
mod services;
mod similarity;
mod subjects;

use utoipa::OpenApi;

pub(super) use concerned::{Concerned, concerned};
pub use routes::ROUTES as COMPREFACE_ROUTES;
pub(super) use routes::configure;

/// Its description.
#[derive(OpenApi)]
#[openapi(paths(
    subjects::list,
    subjects::add,
    subjects::remove_all,
    subjects::rename,
    subjects::remove,
    examples::list,
    examples::add,
    examples::remove_all,
    examples::remove_several,
    examples::remove,
    examples::download,
    examples::download_static,
    services::recognise,
    services::verify_example,
    services::detect,
    services::verify,
    embeddings::recognise,
    embeddings::verify_example,
    embeddings::verify,
))]
pub(super) struct CompreFaceApi;

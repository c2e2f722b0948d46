//! The query parameter `gallery` of requests that name faces or change people.

use actix_web::{HttpRequest, web};
use serde::Deserialize;

use super::{error::Problem, state::State};
use crate::recognition::GalleryName;

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    gallery: GalleryName,
}

/// Returns the gallery that a request names; the default one if it names none.
pub(super) fn gallery(req: &HttpRequest) -> Result<GalleryName, Problem> {
    let query = web::Query::<Query>::from_query(req.query_string());
    query.map(|query| query.into_inner().gallery).map_err(|error| Problem::bad_request(error.to_string()))
}

/// Returns the gallery that a request names, which must exist.
pub(super) async fn existing_gallery(req: &HttpRequest, state: &State) -> Result<GalleryName, Problem> {
    let name = gallery(req)?;
    if state.web.gallery_exists(&name).await? {
        return Ok(name);
    }
    Err(Problem::not_found(format!("there is no gallery \"{name}\"; add a person with POST /v1/people?gallery={name}")))
}

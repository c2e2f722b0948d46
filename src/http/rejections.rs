//! `/v1/people/{name}/rejections`: faces that were given a name and are not that person's.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    embed::{Chosen, Embedded, embed},
    error::Problem,
    face_box::FaceBox,
    gallery_query::gallery,
    openapi::{Problems, RejectedPhoto},
    state::State,
    upload::receive,
};

/// A face that was rejected as a person's.
#[derive(Serialize, ToSchema)]
struct RejectedFace {
    name: String,
    /// Number of rejected faces that are known of the person.
    rejected: u64,
    /// Number of the person's photos that were removed, because they show the face.
    photos_removed: u64,
    /// Number of photos of the person. A person without one is no longer known.
    photos_total: u64,
    /// Version of the gallery.
    version: u64,
}

/// `POST /v1/people/{name}/rejections`: notes that a face in a photo is not the person's.
#[utoipa::path(
    post, path = "/v1/people/{name}/rejections", operation_id = "people_reject", tag = "People", summary = "Say that a face is not a person's",
    params(("name" = String, Path, description = "The person"), ("gallery" = Option<String>, Query, description = "The gallery; without it, the default one")),
    request_body(content = RejectedPhoto, content_type = "multipart/form-data"),
    responses((status = 201, description = "The face is not given the name again", body = RejectedFace), Problems)
)]
pub async fn add(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let (gallery, name) = (gallery(&req)?, path.into_inner());
    let mut received = receive(&req, payload, &state.web).await?;
    let photos = received.files.len();
    let bbox = FaceBox::of_form(&received.texts, photos)?;
    let (Some(file), 1) = (received.files.pop(), photos) else {
        return Err(Problem::bad_request(format!("a rejection is of a face in one photo, and the form has {photos}")));
    };
    let store = state.web.gallery(&gallery);
    let nobody = || Problem::not_found(format!("nobody is called {name:?}"));
    if store.person(&name).await?.is_none() {
        return Err(nobody());
    }
    let Embedded { found, .. } = embed(&state, file).await;
    let chosen = found?.chosen(bbox);
    let Chosen { embedding, model, .. } = chosen.map_err(|why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why))?;
    let rejection = store.reject(&name, embedding, model).await?.ok_or_else(nobody)?;
    state.web.saw_gallery(&gallery, rejection.version);
    Ok(HttpResponse::Created().json(RejectedFace {
        name,
        rejected: rejection.rejected as u64,
        photos_removed: rejection.removed as u64,
        photos_total: rejection.photos as u64,
        version: rejection.version,
    }))
}

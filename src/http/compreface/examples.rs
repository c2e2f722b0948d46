//! Examples: the photos by which people are known.

use std::collections::{BTreeSet, HashSet};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    bodies::{DeletedCount, Example, Examples},
    faces::embedding,
    images::{FILE, identify, receive_images},
    json::{parsed, receive_json},
    params::Params,
    refusal::Refusal,
};
use crate::{
    http::{
        access::caller,
        audit_guard, code,
        error::Problem,
        openapi::{PhotoFile, Refusals},
        state::State,
        web_tier::WebTier,
    },
    inference::gallery::{Photo, PhotoId, SAME_PHOTO},
    recognition::{Candidate, GalleryName, Identification},
};

/// People among whom another one with the same photo is looked for: the subject, and that one.
const NEAREST: usize = 2;
/// Most examples in one request to delete some.
const MAX_DELETED: usize = 10_000;
/// Largest request to delete some examples, in bytes: as many ids, with room for spaces.
const MAX_JSON: usize = 1 << 20;

type Response = Result<HttpResponse, Refusal>;

/// Returns the subject as its gallery spells it, without regard to case; as it was given if there is none.
pub(super) async fn as_known(state: &State, gallery: &GalleryName, subject: &str) -> Result<String, Refusal> {
    Ok(state.web.resolve(gallery, subject).await?.unwrap_or_else(|| subject.to_owned()))
}

/// Reads the id of an example in a path.
pub(super) fn parse_id(text: &str) -> Result<PhotoId, Refusal> {
    text.parse().map_err(|_| Refusal::new(code::BAD_ARGUMENT, format!("{text:?} is not the id of an image")))
}

/// Finds an example in the gallery of a request's key, and tells the audit log whose it is.
pub(super) async fn find(req: &HttpRequest, state: &State, id: PhotoId) -> Result<Photo, Refusal> {
    let gallery = caller(req).gallery;
    let photo = state.web.gallery(&gallery).photo(id).await?.ok_or_else(|| Refusal::no_example(id))?;
    audit_guard::seen(req, state, &gallery, [photo.name.as_str()].into_iter());
    Ok(photo)
}

/// `POST /recognition/faces`: adds an example of a subject, who is created if new.
#[utoipa::path(
    post, path = "/api/v1/recognition/faces", tag = "CompreFace", operation_id = "compreface_examples_add", summary = "Add an example",
    request_body(content = PhotoFile, content_type = "multipart/form-data"), params(("subject" = String, Query, description = "The subject"), ("det_prob_threshold" = Option<f32>, Query, description = "Least confidence of a face")), security(("key" = [])),
    responses((status = 201, description = "Add an example", body = Example), Refusals)
)]
pub(super) async fn add(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let subject = params.required_subject()?;
    let [image] = receive_images(&req, payload, &state.web, [FILE]).await?;
    let gallery = caller(&req).gallery;
    let subject = &as_known(&state, &gallery, subject).await?;
    audit_guard::seen(&req, &state, &gallery, [subject.as_str()].into_iter());
    let bytes = image.bytes.clone();
    let Identification { recognition, candidates } = identify(&state, gallery.clone(), NEAREST, image).await?;
    let faces: Vec<_> =
        recognition.faces.iter().enumerate().filter(|(_, face)| face.score >= params.min_score).collect();
    let (face, nearest) = match faces[..] {
        [] => return Err(Refusal::no_face()),
        [(at, face)] => (embedding(face)?.to_vec(), candidates.get(at)),
        _ => return Err(Refusal::too_many_faces()),
    };
    // The id of an example is derived from its embedding, so an example of two subjects would be deleted for both.
    let other = |one: &&Candidate| one.similarity > SAME_PHOTO && one.name != *subject;
    if let Some(other) = nearest.into_iter().flatten().find(other) {
        audit_guard::seen(&req, &state, &gallery, [subject.as_str(), other.name.as_str()].into_iter());
        let why = format!("this photo is an example of the subject {:?}: delete that example first", other.name);
        return Err(Refusal::new(code::INVALID, why));
    }
    let model = recognition.model.clone().ok_or_else(|| Refusal::internal("the embedding has no model"))?;
    let store = state.web.gallery(&gallery);
    let added = store.add(subject, vec![face], model).await?;
    state.web.saw_gallery(&gallery, added.version);
    let id = *added.ids.first().ok_or_else(|| Refusal::internal("the example was removed at once"))?;
    if state.web.settings().gallery.keep_photos {
        store.keep_photo(subject, id, bytes).await?;
    }
    Ok(HttpResponse::Created().json(example(id, subject)))
}

/// `GET /recognition/faces`: lists examples in pages.
#[utoipa::path(
    get, path = "/api/v1/recognition/faces", tag = "CompreFace", operation_id = "compreface_examples_list", summary = "List examples",
     params(("page" = Option<usize>, Query, description = "Page, from 0"), ("size" = Option<usize>, Query, description = "Examples on a page"), ("subject" = Option<String>, Query, description = "The subject")), security(("key" = [])),
    responses((status = 200, description = "List examples", body = Examples), Refusals)
)]
pub(super) async fn list(req: HttpRequest, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let gallery = caller(&req).gallery;
    let subject = match params.subject.as_deref().filter(|subject| !subject.is_empty()) {
        Some(subject) => Some(as_known(&state, &gallery, subject).await?),
        None => None,
    };
    let skip = params.page.saturating_mul(params.size);
    let listed = state.web.gallery(&gallery).photos(subject.as_deref(), skip, params.size).await?;
    let faces: Value = listed.photos.iter().map(|photo| example(photo.id, &photo.name)).collect();
    Ok(HttpResponse::Ok().json(json!({
        "faces": faces,
        "page_number": params.page,
        "page_size": params.size,
        "total_pages": listed.total.div_ceil(params.size),
        "total_elements": listed.total,
    })))
}

/// `DELETE /recognition/faces`: deletes all examples of a subject or, without one, of everybody.
#[utoipa::path(
    delete, path = "/api/v1/recognition/faces", tag = "CompreFace", operation_id = "compreface_examples_remove_all", summary = "Delete the examples of a subject, or all",
     params(("subject" = Option<String>, Query, description = "The subject")), security(("key" = [])),
    responses((status = 200, description = "Delete the examples of a subject, or all", body = DeletedCount), Refusals)
)]
pub(super) async fn remove_all(req: HttpRequest, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let gallery = caller(&req).gallery;
    let store = state.web.gallery(&gallery);
    let (manifest, deleted) = if params.subject.is_some() {
        let subject = &as_known(&state, &gallery, params.required_subject()?).await?;
        audit_guard::seen(&req, &state, &gallery, [subject.as_str()].into_iter());
        store.forget(subject).await?
    } else {
        let (manifest, _, photos) = store.clear().await?;
        (manifest, photos)
    };
    state.web.saw_gallery(&gallery, manifest.version);
    Ok(HttpResponse::Ok().json(json!({ "deleted": deleted })))
}

/// `DELETE /recognition/faces/{id}`: deletes an example.
#[utoipa::path(
    delete, path = "/api/v1/recognition/faces/{id}", tag = "CompreFace", operation_id = "compreface_examples_remove", summary = "Delete an example",
     params(("id" = String, Path, description = "The example")), security(("key" = [])),
    responses((status = 200, description = "Delete an example", body = Example), Refusals)
)]
pub(super) async fn remove(req: HttpRequest, path: web::Path<String>, state: web::Data<State>) -> Response {
    let id = parse_id(&path)?;
    let removed = remove_some(&req, &state, HashSet::from([id])).await?;
    let photo = removed.first().ok_or_else(|| Refusal::no_example(id))?;
    Ok(HttpResponse::Ok().json(example(id, &photo.name)))
}

/// `POST /recognition/faces/delete`: deletes several examples. Ids of which there is none are ignored.
#[utoipa::path(
    post, path = "/api/v1/recognition/faces/delete", tag = "CompreFace", operation_id = "compreface_examples_remove_several", summary = "Delete several examples",
    request_body(content = Vec<String>, content_type = "application/json"),  security(("key" = [])),
    responses((status = 200, description = "Delete several examples", body = Vec<Example>), Refusals)
)]
pub(super) async fn remove_several(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let ids = receive_ids(&req, payload, &state.web).await?;
    let removed = remove_some(&req, &state, ids).await?;
    let removed: Value = removed.iter().map(|photo| example(photo.id, &photo.name)).collect();
    Ok(HttpResponse::Ok().json(removed))
}

/// Receives a list of ids.
pub(super) async fn receive_ids(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
) -> Result<HashSet<PhotoId>, Refusal> {
    let (json, _) = receive_json(req, payload, web, MAX_JSON).await?;
    let ids: Vec<String> = parsed(&json)?;
    if ids.len() > MAX_DELETED {
        return Err(Refusal::new(code::INVALID, format!("at most {MAX_DELETED} ids in one request")));
    }
    ids.iter().map(|id| parse_id(id)).collect()
}

async fn remove_some(req: &HttpRequest, state: &State, ids: HashSet<PhotoId>) -> Result<Vec<Photo>, Refusal> {
    let gallery = caller(req).gallery;
    let store = state.web.gallery(&gallery);
    let announce = async |names: Vec<String>| {
        let announced = audit_guard::begins(req, state, &gallery, &names).await;
        announced.map_err(|error| Refusal::from(Problem::from(error)))
    };
    let (manifest, removed) = store.remove_photos(&ids, announce).await?;
    state.web.saw_gallery(&gallery, manifest.version);
    // As in CompreFace, a subject outlives its last example.
    for name in removed.iter().map(|photo| photo.name.as_str()).collect::<BTreeSet<_>>() {
        if store.person(name).await?.is_none() {
            store.reserve_name(name).await?;
        }
    }
    Ok(removed)
}

/// `GET /recognition/faces/{id}/img`: returns the photo of an example.
#[utoipa::path(
    get, path = "/api/v1/recognition/faces/{id}/img", tag = "CompreFace", operation_id = "compreface_examples_download", summary = "Download the photo of an example",
     params(("id" = String, Path, description = "The example")), security(("key" = [])),
    responses((status = 200, description = "The photo", content((String = "image/jpeg"), (String = "image/png"), (String = "image/webp"))), Refusals)
)]
pub(super) async fn download(req: HttpRequest, path: web::Path<String>, state: web::Data<State>) -> Response {
    image(&req, &state, parse_id(&path)?).await
}

/// `GET /static/{key}/images/{id}`: the same, for browsers, which send no header.
#[utoipa::path(
    get, path = "/api/v1/static/{key}/images/{id}", tag = "CompreFace", operation_id = "compreface_examples_download_static", summary = "Download the photo of an example by a link",
     params(("key" = String, Path, description = "The key"), ("id" = String, Path, description = "The example")), security(("key" = [])),
    responses((status = 200, description = "The photo", content((String = "image/jpeg"), (String = "image/png"), (String = "image/webp"))), Refusals)
)]
pub(super) async fn download_static(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    state: web::Data<State>,
) -> Response {
    image(&req, &state, parse_id(&path.1)?).await
}

async fn image(req: &HttpRequest, state: &State, id: PhotoId) -> Response {
    find(req, state, id).await?;
    let Some(photo) = state.web.gallery(&caller(req).gallery).kept_photo(id).await? else {
        let why = "the photo of this example was not kept (gallery.keep_photos)";
        return Err(Refusal::not_found(code::NO_IMAGE, why));
    };
    Ok(HttpResponse::Ok().content_type(content_type(&photo)).body(photo))
}

/// Returns the type of an image of one of the formats that are enrolled.
fn content_type(photo: &Bytes) -> &'static str {
    match &photo[..] {
        [0xFF, 0xD8, ..] => "image/jpeg",
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        _ => "image/webp",
    }
}

fn example(id: PhotoId, subject: &str) -> Value {
    json!({ "image_id": id.to_string(), "subject": subject })
}

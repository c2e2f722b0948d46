//! `/v1/people`: who is known. Photos go through the queue; only embeddings are kept, and they never leave.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use futures_util::future::join_all;
use serde_json::json;

use super::{
    error::ApiError,
    form::{self, Photo},
};
use crate::{
    actors::web_tier::{Upload, WebTier},
    inference::gallery::check_name,
    wire::{JobId, Task},
};

/// `GET /v1/people`.
pub async fn list(web: Data<WebTier>) -> Result<HttpResponse, ApiError> {
    let gallery = web.gallery().load().await?;
    let people: Vec<_> =
        gallery.people.iter().map(|p| json!({ "name": p.name, "photos": p.embeddings.len() })).collect();
    Ok(HttpResponse::Ok().json(json!({ "version": gallery.version, "people": people })))
}

/// `POST /v1/people`: a field `name` and one or more photos. Photos without a face are reported, the rest is kept.
pub async fn add(web: Data<WebTier>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let form = form::read(&web, &request, payload).await?;
    let name = form.fields.get("name").map(|n| n.trim()).filter(|n| !n.is_empty());
    let name = name.ok_or_else(|| ApiError::bad_request("the field `name` is missing: who is in the photos?"))?;
    check_name(name).map_err(|e| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, e.0))?;

    let learned = join_all(form.photos.into_iter().map(|photo| embed(&web, photo))).await;
    let (mut embeddings, mut photos) = (Vec::new(), Vec::new());
    let mut busy = None;
    for (file, result) in learned {
        match result {
            Ok(embedding) => {
                embeddings.push(embedding);
                photos.push(json!({ "file": file, "added": true }));
            }
            Err(error) => {
                photos.push(json!({ "file": file, "added": false, "reason": error.detail }));
                busy = Some(error).filter(|e| e.status.is_server_error()).or(busy);
            }
        }
    }
    if embeddings.is_empty() {
        // A fault of ours is not the photos' fault.
        let reasons = photos.iter().filter_map(|p| p["reason"].as_str()).collect::<Vec<_>>().join("; ");
        let unusable = || ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("no photo could be used: {reasons}"));
        return Err(busy.unwrap_or_else(unusable));
    }
    let gallery = web.gallery().add(name, embeddings).await?;
    web.saw_gallery(gallery.version);
    let known = gallery.people.iter().find(|p| p.name == name).map_or(0, |p| p.embeddings.len());
    tracing::info!(version = gallery.version, "gallery changed: photos added");
    Ok(HttpResponse::Created().json(json!({
        "name": name, "photos_known": known, "version": gallery.version, "photos": photos,
    })))
}

/// The embedding of a photo's largest face.
async fn embed(web: &WebTier, photo: Photo) -> (String, Result<Vec<f32>, ApiError>) {
    let file = photo.file.clone();
    let learn = async {
        photo.check(web)?;
        let Photo { file, bytes, admission } = photo;
        let upload = Upload { id: JobId::new(), task: Task::Embed, file, image: bytes };
        let recognition = web.submit(admission, upload, false).await?.outcome?;
        let face = recognition.faces.into_iter().next();
        let no_face = || ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "there is no face in the photo");
        face.and_then(|f| f.embedding).ok_or_else(no_face)
    };
    let result = learn.await;
    (file, result)
}

/// `DELETE /v1/people/{name}`: the person's embeddings go, from the store and from the workers.
pub async fn remove(web: Data<WebTier>, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let Some(gallery) = web.gallery().remove(&name).await? else {
        return Err(ApiError::not_found("nobody of that name is known"));
    };
    web.saw_gallery(gallery.version);
    tracing::info!(version = gallery.version, "gallery changed: a person removed");
    Ok(HttpResponse::NoContent().finish())
}

//! Subjects: the names of the people in a gallery.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::json;

use super::{
    bodies::{DeletedCount, Subject, Subjects, Updated},
    examples::as_known,
    json::{parsed_object, receive_json},
    refusal::Refusal,
};
use crate::http::{access::caller, audit_guard, code, openapi::Refusals, state::State, web_tier::WebTier};

/// Largest body, in bytes.
const MAX_JSON: usize = 64 << 10;

type Response = Result<HttpResponse, Refusal>;

/// `GET /recognition/subjects`: lists the subjects, also those without an example.
#[utoipa::path(
    get, path = "/api/v1/recognition/subjects", tag = "CompreFace", operation_id = "compreface_subjects_list", summary = "List subjects",
      security(("key" = [])),
    responses((status = 200, description = "List subjects", body = Subjects), Refusals)
)]
pub(super) async fn list(req: HttpRequest, state: web::Data<State>) -> Response {
    let gallery = state.web.gallery(&caller(&req).gallery);
    let mut subjects: BTreeSet<String> = gallery.reserved_names().await?;
    let mut reader = gallery.reader(None).await?;
    while let Some(part) = reader.next().await? {
        subjects.extend(part.people.into_iter().map(|person| person.name));
    }
    Ok(HttpResponse::Ok().json(json!({ "subjects": subjects })))
}

/// `POST /recognition/subjects`: adds a subject without examples.
#[utoipa::path(
    post, path = "/api/v1/recognition/subjects", tag = "CompreFace", operation_id = "compreface_subjects_add", summary = "Add a subject",
    request_body(content = Subject, content_type = "application/json"),  security(("key" = [])),
    responses((status = 201, description = "Add a subject", body = Subject), Refusals)
)]
pub(super) async fn add(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let subject = receive_subject(&req, payload, &state.web).await?;
    let gallery = caller(&req).gallery;
    audit_guard::seen(&req, &state, &gallery, [subject.as_str()].into_iter());
    let store = state.web.gallery(&gallery);
    if state.web.resolve(&gallery, &subject).await?.is_some() || !store.reserve_name(&subject).await? {
        return Err(Refusal::new(code::SUBJECT_EXISTS, "Subject already exists"));
    }
    Ok(HttpResponse::Created().json(json!({ "subject": subject })))
}

/// `PUT /recognition/subjects/{subject}`: renames a subject, or adds its examples to another one.
#[utoipa::path(
    put, path = "/api/v1/recognition/subjects/{subject}", tag = "CompreFace", operation_id = "compreface_subjects_rename", summary = "Rename or merge a subject",
    request_body(content = Subject, content_type = "application/json"), params(("subject" = String, Path, description = "The subject")), security(("key" = [])),
    responses((status = 200, description = "Rename or merge a subject", body = Updated), Refusals)
)]
pub(super) async fn rename(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<State>,
) -> Response {
    let new = receive_subject(&req, payload, &state.web).await?;
    let (gallery, old) = (caller(&req).gallery, path.into_inner());
    let old = as_known(&state, &gallery, &old).await?;
    // Another spelling of the same name is none to merge with.
    let new = match state.web.resolve(&gallery, &new).await? {
        Some(known) if known != old => known,
        _ => new,
    };
    audit_guard::seen(&req, &state, &gallery, [old.as_str(), new.as_str()].into_iter());
    if old == new {
        return Ok(HttpResponse::Ok().json(json!({ "updated": false })));
    }
    let manifest = state.web.gallery(&gallery).rename(&old, &new).await?;
    let manifest = manifest.ok_or_else(|| Refusal::no_subject(&old))?;
    state.web.saw_gallery(&gallery, manifest.version);
    Ok(HttpResponse::Ok().json(json!({ "updated": true })))
}

/// `DELETE /recognition/subjects/{subject}`: deletes a subject with its examples.
#[utoipa::path(
    delete, path = "/api/v1/recognition/subjects/{subject}", tag = "CompreFace", operation_id = "compreface_subjects_remove", summary = "Delete a subject",
     params(("subject" = String, Path, description = "The subject")), security(("key" = [])),
    responses((status = 200, description = "Delete a subject", body = Subject), Refusals)
)]
pub(super) async fn remove(req: HttpRequest, path: web::Path<String>, state: web::Data<State>) -> Response {
    let (gallery, subject) = (caller(&req).gallery, path.into_inner());
    let subject = as_known(&state, &gallery, &subject).await?;
    audit_guard::seen(&req, &state, &gallery, [subject.as_str()].into_iter());
    let manifest = state.web.gallery(&gallery).remove(&subject).await?;
    let manifest = manifest.ok_or_else(|| Refusal::no_subject(&subject))?;
    state.web.saw_gallery(&gallery, manifest.version);
    Ok(HttpResponse::Ok().json(json!({ "subject": subject })))
}

/// `DELETE /recognition/subjects`: deletes every subject with its examples.
#[utoipa::path(
    delete, path = "/api/v1/recognition/subjects", tag = "CompreFace", operation_id = "compreface_subjects_remove_all", summary = "Delete every subject",
      security(("key" = [])),
    responses((status = 200, description = "Delete every subject", body = DeletedCount), Refusals)
)]
pub(super) async fn remove_all(req: HttpRequest, state: web::Data<State>) -> Response {
    let gallery = caller(&req).gallery;
    let (manifest, people, _) = state.web.gallery(&gallery).clear().await?;
    state.web.saw_gallery(&gallery, manifest.version);
    Ok(HttpResponse::Ok().json(json!({ "deleted": people })))
}

/// Receives `{"subject": "…"}`.
pub(super) async fn receive_subject(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        subject: Option<String>,
    }
    let (json, _) = receive_json(req, payload, web, MAX_JSON).await?;
    let Body { subject } = parsed_object(&json)?;
    let subject = subject.filter(|subject| !subject.trim().is_empty());
    subject.ok_or_else(|| Refusal::new(code::INVALID, "Subject name is empty"))
}

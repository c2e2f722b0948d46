//! `/v1/recognitions`: photos in, everything seen in them out; now, or later under an id.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Path, Payload},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    error::{ApiError, ID_HEADER},
    form::{self, Photo},
};
use crate::{
    actors::web_tier::{Upload, WebTier},
    wire::{JobId, Reply, Task},
};

/// The job id of a request: its own, or made from the client's `Idempotency-Key`, so that a retry is the same job.
#[derive(Clone, Copy)]
pub struct Key(Option<JobId>);

impl Key {
    /// The key of a request with so many files.
    pub fn of(request: &HttpRequest, files: usize) -> Result<Self, ApiError> {
        let Some(key) = request.headers().get("Idempotency-Key") else { return Ok(Self(None)) };
        let key = key.to_str().ok().filter(|k| (1..=255).contains(&k.len()));
        let key = key.ok_or_else(|| ApiError::bad_request("Idempotency-Key must be 1 to 255 visible ASCII characters"))?;
        if files != 1 {
            return Err(ApiError::bad_request("a request with Idempotency-Key must hold exactly one file"));
        }
        let hash = Sha256::digest(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Ok(Self(Some(JobId(u128::from_be_bytes(id)))))
    }

    fn id(self) -> JobId {
        self.0.unwrap_or_else(JobId::new)
    }
}

/// Sends a photo through the queue and waits for its reply.
pub async fn recognise(web: &WebTier, photo: Photo, key: Key) -> Result<(JobId, Reply), ApiError> {
    photo.check(web)?;
    let Photo { file, bytes, admission } = photo;
    let id = key.id();
    let upload = Upload { id, task: Task::Recognise, file, image: bytes };
    Ok((id, web.submit(admission, upload, key.0.is_some()).await?))
}

/// `POST /v1/recognitions`. One photo: the answer is its recognition. Several: `{"recognitions": […]}`, in order, with
/// problem details in place of those that failed. `Prefer: respond-async`: 202 with ids.
pub async fn create(web: Data<WebTier>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let form = form::read(&web, &request, payload).await?;
    let key = Key::of(&request, form.photos.len())?;
    let several = form.photos.len() > 1;
    if wants_async(&request) {
        return create_async(&web, form.photos, key).await;
    }
    let one = |photo: Photo| async {
        let file = photo.file.clone();
        let (id, reply) = recognise(&web, photo, key).await?;
        answer(id, &file, reply)
    };
    let mut results = join_all(form.photos.into_iter().map(one)).await;
    if !several && let Some(result) = results.pop() {
        let body = result?;
        let id = body["id"].as_str().unwrap_or_default().to_owned();
        return Ok(HttpResponse::Ok().insert_header((ID_HEADER, id)).json(body));
    }
    let problem = |e: ApiError| json!({ "status": e.status.as_u16(), "detail": e.detail, "id": e.id.map(|i| i.to_string()) });
    let all: Vec<Value> = results.into_iter().map(|r| r.unwrap_or_else(problem)).collect();
    let ids: Vec<&str> = all.iter().filter_map(|v| v["id"].as_str()).collect();
    Ok(HttpResponse::Ok().insert_header((ID_HEADER, ids.join(","))).json(json!({ "recognitions": all })))
}

fn answer(id: JobId, file: &str, reply: Reply) -> Result<Value, ApiError> {
    let recognition = reply.outcome.map_err(|failure| ApiError { id: Some(id), ..failure.into() })?;
    let mut body = json!(recognition);
    body["id"] = json!(id.to_string());
    body["file"] = json!(file);
    body["worker"] = json!(reply.worker);
    body["timings"]["worker_ms"] = json!(reply.worker_ms);
    Ok(body)
}

fn wants_async(request: &HttpRequest) -> bool {
    let values = request.headers().get_all("Prefer").filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split([',', ';'])).any(|token| token.trim().eq_ignore_ascii_case("respond-async"))
}

async fn create_async(web: &WebTier, photos: Vec<Photo>, key: Key) -> Result<HttpResponse, ApiError> {
    photos.iter().try_for_each(|photo| photo.check(web))?;
    let mut accepted = Vec::with_capacity(photos.len());
    for Photo { file, bytes, admission } in photos {
        let id = key.id();
        web.submit_async(admission, Upload { id, task: Task::Recognise, file: file.clone(), image: bytes }).await?;
        accepted.push(json!({ "id": id.to_string(), "file": file, "status": "pending" }));
    }
    let ids: Vec<&str> = accepted.iter().filter_map(|v| v["id"].as_str()).collect();
    let mut response = HttpResponse::Accepted();
    response.insert_header(("Preference-Applied", "respond-async")).insert_header((ID_HEADER, ids.join(",")));
    match accepted.as_slice() {
        [one] => {
            response.insert_header((header::LOCATION, format!("/v1/recognitions/{}", ids[0])));
            Ok(response.json(one))
        }
        all => Ok(response.json(json!({ "recognitions": all }))),
    }
}

fn parse_id(id: &str) -> Result<JobId, ApiError> {
    id.parse().map_err(|_| ApiError::bad_request(format!("{id:?} is not an id: 26 letters and digits")))
}

/// `GET /v1/recognitions/{id}`: the record, whatever node or life of this server took the upload.
pub async fn show(web: Data<WebTier>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    match web.record(parse_id(&id)?).await? {
        Some(record) => Ok(HttpResponse::Ok().json(record)),
        None => Err(ApiError::not_found("there is no recognition with this id")),
    }
}

/// `DELETE /v1/recognitions/{id}`: image, label and record go.
pub async fn delete(web: Data<WebTier>, id: Path<String>) -> Result<HttpResponse, ApiError> {
    if web.forget(parse_id(&id)?).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::not_found("there is no recognition with this id"))
    }
}

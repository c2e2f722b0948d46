//! Recognition and verification by embeddings that clients have computed with the plugin `calculator`.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    examples::{self, parse_id},
    faces::subjects,
    images::perform,
    json::{parsed_object, receive_json},
    params::{Params, check_candidates},
    refusal::Refusal,
    similarity::similarity,
};
use crate::{
    http::{access::caller, code, error::Problem, state::State, upload::ReceivedFile},
    inference::embeddings::similarity::{dot, normalise},
    recognition::{Candidate, GalleryName, Task},
};

/// Length of the embeddings of SFace, which a gallery without embeddings is taken to expect.
const SFACE: usize = 128;
/// Largest body, in bytes: some 1,500 embeddings, which take less memory than their text.
const MAX_JSON: usize = 4 << 20;

type Response = Result<HttpResponse, Refusal>;

/// `POST /recognition/embeddings/recognize`: who is most similar to each embedding.
pub(super) async fn recognise(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let gallery = caller(&req).gallery;
    let (json, admission) = receive_json(&req, payload, &state, MAX_JSON).await?;
    let embeddings = required(parsed_object::<Embeddings>(&json)?.embeddings, "embeddings")?;
    check_candidates(embeddings.len(), &params, "embeddings")?;
    check_length(&state, &gallery, &embeddings).await?;
    let payload = serde_json::to_vec(&embeddings).map_err(|error| Problem::bad_request(error.to_string()))?;
    let (field, name) = (String::new(), "embeddings.json".to_owned());
    let file = ReceivedFile { field, name, bytes: Bytes::from(payload), admission };
    let found = perform(&state, Task::Match(params.prediction_count), gallery, file).await?;
    let found: Vec<Vec<Candidate>> = serde_json::from_slice(&found).map_err(|_| Refusal::other_version())?;
    let result = embeddings.iter().zip(&found).map(
        |(embedding, candidates)| json!({ "embedding": embedding, "similarities": subjects(candidates, &params) }),
    );
    Ok(HttpResponse::Ok().json(json!({ "result": result.collect::<Value>() })))
}

/// `POST /recognition/embeddings/faces/{id}/verify`: how similar each embedding is to an example.
pub(super) async fn verify_example(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<State>,
) -> Response {
    let id = parse_id(&path)?;
    let (json, _) = receive_json(&req, payload, &state, MAX_JSON).await?;
    let embeddings = required(parsed_object::<Embeddings>(&json)?.embeddings, "embeddings")?;
    check_length(&state, &caller(&req).gallery, &embeddings).await?;
    let example = examples::find(&req, &state, id).await?;
    Ok(HttpResponse::Ok().json(compared(&example.embedding, &embeddings)?))
}

/// `POST /verification/embeddings/verify`: how similar each embedding is to another.
pub(super) async fn verify(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let (json, _) = receive_json(&req, payload, &state, MAX_JSON).await?;
    let Verification { source, targets } = parsed_object(&json)?;
    let (mut source, targets) = (required(source, "source")?, required(targets, "targets")?);
    check_length(&state, &caller(&req).gallery, std::slice::from_ref(&source)).await?;
    check_length(&state, &caller(&req).gallery, &targets).await?;
    if !normalise(&mut source) {
        return Err(not_an_embedding());
    }
    Ok(HttpResponse::Ok().json(compared(&source, &targets)?))
}

/// Compares embeddings with one of unit length and of the same number of numbers.
fn compared(source: &[f32], embeddings: &[Vec<f32>]) -> Result<Value, Refusal> {
    let mut result = Vec::new();
    for embedding in embeddings {
        let mut unit = embedding.clone();
        if !normalise(&mut unit) || unit.len() != source.len() {
            return Err(not_an_embedding());
        }
        result.push(json!({ "embedding": embedding, "similarity": similarity(dot(source, &unit)) }));
    }
    Ok(json!({ "result": result }))
}

/// Checks that embeddings are as long as those that workers compute.
///
/// # Errors
/// They come from another model.
async fn check_length(state: &State, gallery: &GalleryName, embeddings: &[Vec<f32>]) -> Result<(), Refusal> {
    let manifest = state.web.gallery(gallery).manifest().await?;
    let expected = manifest.dimension().unwrap_or(SFACE);
    match embeddings.iter().map(Vec::len).find(|length| *length != expected) {
        None => Ok(()),
        Some(length) => Err(Refusal::new(
            code::BAD_ARGUMENT,
            format!(
                "the embedding has {length} numbers, but those of this server have {expected}, so it comes from another \
                 model, for example one of CompreFace, and cannot be compared: compute it again, from the photo, with \
                 face_plugins=calculator"
            ),
        )),
    }
}

/// The field `embeddings`.
#[derive(Deserialize)]
struct Embeddings {
    #[serde(default)]
    embeddings: Vec<Vec<f32>>,
}

/// The fields of a verification.
#[derive(Deserialize)]
struct Verification {
    #[serde(default)]
    source: Vec<f32>,
    #[serde(default)]
    targets: Vec<Vec<f32>>,
}

fn required<T>(values: Vec<T>, field: &str) -> Result<Vec<T>, Refusal> {
    if values.is_empty() { Err(Refusal::empty_field(field)) } else { Ok(values) }
}

fn not_an_embedding() -> Refusal {
    Refusal::new(code::BAD_ARGUMENT, "an embedding is zero or not finite")
}

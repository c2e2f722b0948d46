//! Recognition and verification by embeddings that clients have computed with the plugin `calculator`.

use std::fmt;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, SeqAccess, Visitor},
};
use serde_json::{Value, json};

use super::{
    bodies::{ComparedEmbeddings, GivenEmbeddings, GivenVerification, RecognisedEmbeddings},
    examples::{self, parse_id},
    faces::subjects,
    images::perform,
    json::{parsed_object, receive_json},
    params::{Params, check_candidates},
    refusal::Refusal,
    similarity::similarity,
};
use crate::{
    client::Admission,
    http::{
        access::caller, code, error::Problem, openapi::Refusals, state::State, upload::ReceivedFile, web_tier::WebTier,
    },
    inference::embeddings::similarity::{dot, normalise},
    recognition::{Candidate, GalleryName, Task},
};

/// Length of the embeddings of SFace, which a gallery without embeddings is taken to expect.
const SFACE: usize = 128;
/// Largest body, in bytes: some 1,500 embeddings.
const MAX_JSON: usize = 4 << 20;
/// Most embeddings in a body, which bounds the memory for lists that are empty.
const MAX_EMBEDDINGS: usize = 2_000;

type Response = Result<HttpResponse, Refusal>;

/// `POST /recognition/embeddings/recognize`: who is most similar to each embedding.
#[utoipa::path(
    post, path = "/api/v1/recognition/embeddings/recognize", tag = "CompreFace", operation_id = "compreface_embeddings_recognise", summary = "Recognise embeddings",
    request_body(content = GivenEmbeddings, content_type = "application/json"), params(("prediction_count" = Option<usize>, Query, description = "Subjects for each face")), security(("key" = [])),
    responses((status = 200, description = "Recognise embeddings", body = RecognisedEmbeddings), Refusals)
)]
pub(super) async fn recognise(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let gallery = caller(&req).gallery;
    let (embeddings, admission) = receive_embeddings(&req, payload, &state.web).await?;
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
#[utoipa::path(
    post, path = "/api/v1/recognition/embeddings/faces/{id}/verify", tag = "CompreFace", operation_id = "compreface_embeddings_verify_example", summary = "Compare embeddings with an example",
    request_body(content = GivenEmbeddings, content_type = "application/json"), params(("id" = String, Path, description = "The example")), security(("key" = [])),
    responses((status = 200, description = "Compare embeddings with an example", body = ComparedEmbeddings), Refusals)
)]
pub(super) async fn verify_example(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<State>,
) -> Response {
    let id = parse_id(&path)?;
    let (embeddings, _admission) = receive_embeddings(&req, payload, &state.web).await?;
    check_length(&state, &caller(&req).gallery, &embeddings).await?;
    let example = examples::find(&req, &state, id).await?;
    Ok(HttpResponse::Ok().json(compared(&example.embedding, &embeddings)?))
}

/// `POST /verification/embeddings/verify`: how similar each embedding is to another.
#[utoipa::path(
    post, path = "/api/v1/verification/embeddings/verify", tag = "CompreFace", operation_id = "compreface_embeddings_verify", summary = "Compare embeddings with another",
    request_body(content = GivenVerification, content_type = "application/json"),  security(("key" = [])),
    responses((status = 200, description = "Compare embeddings with another", body = ComparedEmbeddings), Refusals)
)]
pub(super) async fn verify(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let (mut source, targets, _admission) = receive_verification(&req, payload, &state.web).await?;
    check_length(&state, &caller(&req).gallery, std::slice::from_ref(&source)).await?;
    check_length(&state, &caller(&req).gallery, &targets).await?;
    normalise(&mut source);
    Ok(HttpResponse::Ok().json(compared(&source, &targets)?))
}

/// Compares embeddings with one of unit length and of the same number of numbers.
pub(super) fn compared(source: &[f32], embeddings: &[Vec<f32>]) -> Result<Value, Refusal> {
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

/// Receives `{"embeddings": [[…], …]}`, with the place of the request among those in memory.
pub(super) async fn receive_embeddings(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
) -> Result<(Vec<Vec<f32>>, Admission), Refusal> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        embeddings: Embeddings,
    }
    let (Body { embeddings }, admission) = receive_numbers(req, payload, web).await?;
    Ok((embeddings.checked("embeddings")?, admission))
}

/// Receives `{"source": […], "targets": [[…], …]}`, with the place of the request among those in memory.
pub(super) async fn receive_verification(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
) -> Result<(Vec<f32>, Vec<Vec<f32>>, Admission), Refusal> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        source: Vec<f32>,
        #[serde(default)]
        targets: Embeddings,
    }
    let (Body { source, targets }, admission) = receive_numbers(req, payload, web).await?;
    if source.is_empty() {
        return Err(Refusal::empty_field("source"));
    }
    let targets = targets.checked("targets")?;
    if !normalise(&mut source.clone()) {
        return Err(not_an_embedding());
    }
    Ok((source, targets, admission))
}

/// Receives an object with embeddings.
async fn receive_numbers<T: DeserializeOwned>(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
) -> Result<(T, Admission), Refusal> {
    let (json, mut admission) = receive_json(req, payload, web, MAX_JSON).await?;
    web.reserve(&mut admission, json.len() * 2)?; // a number takes four bytes, and its text two or more
    Ok((parsed_object(&json)?, admission))
}

/// A list of at most [`MAX_EMBEDDINGS`] embeddings.
#[derive(Default)]
struct Embeddings(Vec<Vec<f32>>);

impl Embeddings {
    /// Returns the embeddings.
    ///
    /// # Errors
    /// There is none, or one is zero or not finite.
    fn checked(self, field: &str) -> Result<Vec<Vec<f32>>, Refusal> {
        if self.0.is_empty() {
            return Err(Refusal::empty_field(field));
        }
        if self.0.iter().any(|embedding| !normalise(&mut embedding.clone())) {
            return Err(not_an_embedding());
        }
        Ok(self.0)
    }
}

impl<'de> Deserialize<'de> for Embeddings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Embeddings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_EMBEDDINGS} embeddings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Embeddings, A::Error> {
                let mut embeddings = Vec::new();
                while let Some(embedding) = list.next_element()? {
                    if embeddings.len() == MAX_EMBEDDINGS {
                        return Err(A::Error::invalid_length(MAX_EMBEDDINGS + 1, &self));
                    }
                    embeddings.push(embedding);
                }
                Ok(Embeddings(embeddings))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

fn not_an_embedding() -> Refusal {
    Refusal::new(code::BAD_ARGUMENT, "an embedding is zero or not finite")
}

#[cfg(test)]
mod tests {
    use super::{super::json::parsed, *};

    fn read(json: &str) -> Result<Vec<Vec<f32>>, (u16, Option<u16>)> {
        let list: Result<Embeddings, Refusal> = parsed(json.as_bytes());
        list.and_then(|list| list.checked("embeddings")).map_err(|refusal| refusal.code_for_tests())
    }

    #[test]
    fn embeddings_have_a_direction() {
        assert_eq!(read("[[0.5, -2e1]]"), Ok(vec![vec![0.5, -20.0]]));
        for (json, code) in [
            ("[]", code::EMPTY_FIELD),
            ("[[]]", code::BAD_ARGUMENT),
            ("[[1.0], [0.0, -0.0]]", code::BAD_ARGUMENT),
            ("[[1e39]]", code::BAD_ARGUMENT),
            ("[[null]]", code::UNDEFINED),
            ("[1.0]", code::UNDEFINED),
        ] {
            assert_eq!(read(json), Err((400, Some(code))), "{json}");
        }
    }

    #[test]
    fn a_list_of_embeddings_is_bounded() {
        let list = |count: usize| format!("[{}[1]]", "[1],".repeat(count - 1));
        assert_eq!(read(&list(MAX_EMBEDDINGS)).map(|list| list.len()), Ok(MAX_EMBEDDINGS));
        assert_eq!(read(&list(MAX_EMBEDDINGS + 1)), Err((400, Some(code::UNDEFINED))));
        let empty = format!("[{}[]]", "[],".repeat(1 << 20));
        let (refused, bytes) = crate::fuzzing::memory::peak(|| read(&empty).is_err());
        assert!(refused && bytes < empty.len(), "{bytes}");
    }
}

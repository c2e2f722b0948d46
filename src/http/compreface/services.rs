//! Recognition, detection and verification of the faces in photos.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::{
    bodies::{Comparisons, DescribedFaces},
    examples::{self, parse_id},
    faces::{add_versions, compared, described, embedding, subjects, wanted},
    images::{FILE, SOURCE, TARGET, embed, identify, receive_images},
    params::{Params, check_candidates},
    refusal::Refusal,
    similarity::similarity,
};
use crate::{
    http::{
        access::caller,
        openapi::{PhotoFile, Refusals, VerificationPhotos},
        state::State,
    },
    recognition::{Identification, Recognition},
};

/// Header with the requested plugins that have no counterpart.
const IGNORED: &str = "Rollcall-Ignored-Plugins";

type Response = Result<HttpResponse, Refusal>;

/// `POST /recognition/recognize`: who is in a photo.
#[utoipa::path(
    post, path = "/api/v1/recognition/recognize", tag = "CompreFace", operation_id = "compreface_services_recognise", summary = "Recognise the faces of a photo",
    request_body(content = PhotoFile, content_type = "multipart/form-data"), params(("limit" = Option<usize>, Query, description = "Faces at most, the largest first"), ("det_prob_threshold" = Option<f32>, Query, description = "Least confidence of a face"), ("face_plugins" = Option<String>, Query, description = "calculator, landmarks"), ("status" = Option<bool>, Query, description = "Whether to add times and versions"), ("prediction_count" = Option<usize>, Query, description = "Subjects for each face")), security(("key" = [])),
    responses((status = 200, description = "Recognise the faces of a photo", body = DescribedFaces), Refusals)
)]
pub(super) async fn recognise(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let [image] = receive_images(&req, payload, &state.web, [FILE]).await?;
    let Identification { recognition, candidates } =
        identify(&state, caller(&req).gallery, params.prediction_count, image).await?;
    let wanted = wanted(&recognition, &params)?;
    if wanted.last().is_some_and(|last| *last >= candidates.len()) {
        check_candidates(wanted.last().map_or(0, |last| last + 1), &params, "faces (limit)")?;
    }
    let faces = wanted.into_iter().map(|at| {
        let mut face = described(&recognition, &recognition.faces[at], &params);
        face.insert("subjects".into(), subjects(candidates.get(at).map_or(&[][..], Vec::as_slice), &params));
        Value::Object(face)
    });
    Ok(respond(json!({ "result": faces.collect::<Value>() }), &recognition, &params))
}

/// `POST /recognition/faces/{id}/verify`: whether the person of an example is in a photo.
#[utoipa::path(
    post, path = "/api/v1/recognition/faces/{id}/verify", tag = "CompreFace", operation_id = "compreface_services_verify_example", summary = "Compare a photo with an example",
    request_body(content = PhotoFile, content_type = "multipart/form-data"), params(("id" = String, Path, description = "The example"), ("limit" = Option<usize>, Query, description = "Faces at most, the largest first"), ("det_prob_threshold" = Option<f32>, Query, description = "Least confidence of a face"), ("face_plugins" = Option<String>, Query, description = "calculator, landmarks"), ("status" = Option<bool>, Query, description = "Whether to add times and versions")), security(("key" = [])),
    responses((status = 200, description = "Compare a photo with an example", body = DescribedFaces), Refusals)
)]
pub(super) async fn verify_example(
    req: HttpRequest,
    path: web::Path<String>,
    payload: web::Payload,
    state: web::Data<State>,
) -> Response {
    let params = Params::parse(req.query_string())?;
    let id = parse_id(&path)?;
    let [image] = receive_images(&req, payload, &state.web, [FILE]).await?;
    let example = examples::find(&req, &state, id).await?;
    let recognition = embed(&state, image).await?;
    let mut faces = Vec::new();
    for at in wanted(&recognition, &params)? {
        let face = &recognition.faces[at];
        let mut result = described(&recognition, face, &params);
        result.insert("subject".into(), json!(example.name));
        result.insert("similarity".into(), json!(similarity(compared(&example.embedding, embedding(face)?)?)));
        faces.push(Value::Object(result));
    }
    Ok(respond(json!({ "result": faces }), &recognition, &params))
}

/// `POST /detection/detect`: where the faces in a photo are.
#[utoipa::path(
    post, path = "/api/v1/detection/detect", tag = "CompreFace", operation_id = "compreface_services_detect", summary = "Find the faces of a photo",
    request_body(content = PhotoFile, content_type = "multipart/form-data"), params(("limit" = Option<usize>, Query, description = "Faces at most, the largest first"), ("det_prob_threshold" = Option<f32>, Query, description = "Least confidence of a face"), ("face_plugins" = Option<String>, Query, description = "calculator, landmarks"), ("status" = Option<bool>, Query, description = "Whether to add times and versions")), security(("key" = [])),
    responses((status = 200, description = "Find the faces of a photo", body = DescribedFaces), Refusals)
)]
pub(super) async fn detect(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let [image] = receive_images(&req, payload, &state.web, [FILE]).await?;
    let recognition = embed(&state, image).await?;
    let faces = wanted(&recognition, &params)?.into_iter();
    let faces = faces.map(|at| Value::Object(described(&recognition, &recognition.faces[at], &params)));
    Ok(respond(json!({ "result": faces.collect::<Value>() }), &recognition, &params))
}

/// `POST /verification/verify`: whether the person in one photo is in another.
#[utoipa::path(
    post, path = "/api/v1/verification/verify", tag = "CompreFace", operation_id = "compreface_services_verify", summary = "Compare two photos",
    request_body(content = VerificationPhotos, content_type = "multipart/form-data"), params(("limit" = Option<usize>, Query, description = "Faces at most, the largest first"), ("det_prob_threshold" = Option<f32>, Query, description = "Least confidence of a face"), ("face_plugins" = Option<String>, Query, description = "calculator, landmarks"), ("status" = Option<bool>, Query, description = "Whether to add times and versions")), security(("key" = [])),
    responses((status = 200, description = "Compare two photos", body = Comparisons), Refusals)
)]
pub(super) async fn verify(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Response {
    let params = Params::parse(req.query_string())?;
    let [source, target] = receive_images(&req, payload, &state.web, [SOURCE, TARGET]).await?;
    let (source, target) = futures_util::future::try_join(embed(&state, source), embed(&state, target)).await?;
    let all = Params { limit: usize::MAX, ..Params::parse(req.query_string())? };
    let of_source = match wanted(&source, &all)?[..] {
        [only] => &source.faces[only],
        _ => return Err(Refusal::too_many_faces()),
    };
    let mut matches = Vec::new();
    for at in wanted(&target, &params)? {
        let face = &target.faces[at];
        let mut result = described(&target, face, &params);
        let cosine = compared(embedding(of_source)?, embedding(face)?)?;
        result.insert("similarity".into(), json!(similarity(cosine)));
        matches.push(Value::Object(result));
    }
    let mut result = json!({ "source_image_face": described(&source, of_source, &params), "face_matches": matches });
    add_versions(&mut result, &target, &params);
    Ok(with_ignored(&params).json(json!({ "result": [result] })))
}

fn respond(mut response: Value, recognition: &Recognition, params: &Params) -> HttpResponse {
    add_versions(&mut response, recognition, params);
    with_ignored(params).json(response)
}

/// Begins a response, which names the plugins that were ignored.
fn with_ignored(params: &Params) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    if !params.ignored.is_empty() {
        response.insert_header((IGNORED, params.ignored.join(",")));
    }
    response
}

//! `POST /` and `/v1/recognitions`: recognises images, and returns or deletes results.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web,
};
use futures_util::future::join_all;
use sha2::{Digest, Sha256};

use super::{
    access::caller,
    audit_guard,
    error::{ErrorFormat, ID_HEADER, Problem, location, one_line},
    gallery_query::existing_gallery,
    openapi::{ErrorLine, Photos, Problems},
    recognition_body::{CreateAnswer, RecognitionAnswer, RecognitionBody, Recognitions},
    state::State,
    upload::{Received, ReceivedFile, header_text, receive},
    web_tier::Upload,
};
use crate::{
    access::TokenId,
    client::{Admission, SubmitError},
    job::JobId,
    recognition::{GalleryName, RECOGNISE},
    results::{Stored, keys::stem},
    settings::ReplyStyle,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const MAX_KEY: usize = 255;

/// The outcome for one file.
struct Outcome {
    file: String,
    result: Result<RecognitionBody, Problem>,
}

/// `POST /`: responds with one line of text per file.
#[utoipa::path(
    post, path = "/", operation_id = "recognitions_plain", tag = "Recognition", summary = "Recognise photos: a line of text for each",
    request_body(content = Photos, content_type = "multipart/form-data"), params(("gallery" = Option<String>, Query, description = "The gallery; without it, the default one"), ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry find the job of the first request")),
    responses((status = 200, description = "The labels", body = String, content_type = "text/plain"), ErrorLine)
)]
pub async fn plain(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> HttpResponse {
    let outcomes = async {
        let (received, job) = receive_all(&req, payload, &state).await?;
        Ok(wait_for_all(&state, received.files, &job).await)
    };
    let outcomes = match outcomes.await.and_then(unless_all_failed) {
        Ok(outcomes) => outcomes,
        Err(problem) => return problem.respond(ErrorFormat::Line),
    };
    let style = state.web.settings().http.reply;
    let lines: Vec<String> = outcomes.iter().map(|outcome| line(outcome, style)).collect();
    let ids = ids(outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()));
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").insert_header((ID_HEADER, ids)).body(lines.join("\n"))
}

/// `POST /v1/recognitions`: responds with one object for one file, and with `{"recognitions": […]}` for several.
#[utoipa::path(
    post, path = "/v1/recognitions", operation_id = "recognitions_create", tag = "Recognition", summary = "Recognise photos",
    request_body(content = Photos, content_type = "multipart/form-data"),
    params(("gallery" = Option<String>, Query, description = "The gallery; without it, the default one"), ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry find the job of the first request"), ("Prefer" = Option<String>, Header, description = "respond-async: respond as soon as the jobs are durable")),
    responses(
        (status = 200, description = "What was recognised", body = CreateAnswer),
        (status = 202, description = "The jobs are queued", body = CreateAnswer),
        Problems
    )
)]
pub async fn create(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let (received, job) = receive_all(&req, payload, &state).await?;
    let wait = !prefers_async(header_text(&req, header::HeaderName::from_static("prefer")));
    let outcomes = if wait {
        wait_for_all(&state, received.files, &job).await
    } else {
        join_all(received.files.into_iter().map(|file| queue(&state, file, &job))).await
    };
    let single = outcomes.len() == 1;
    let mut bodies: Vec<RecognitionBody> = unless_all_failed(outcomes)?
        .into_iter()
        .map(|outcome| outcome.result.unwrap_or_else(|problem| RecognitionBody::failed(outcome.file, &problem)))
        .collect();

    let mut response = HttpResponse::build(if wait { StatusCode::OK } else { StatusCode::ACCEPTED });
    response.insert_header((ID_HEADER, ids(&bodies)));
    if !wait {
        response.insert_header(("Preference-Applied", "respond-async"));
    }
    if !single {
        return Ok(response.json(Recognitions { recognitions: bodies }));
    }
    let body = bodies.remove(0);
    if let (false, Some(id)) = (wait, &body.id) {
        response.insert_header((header::LOCATION, format!("/v1/recognitions/{id}")));
    }
    Ok(response.json(body))
}

/// `GET /v1/recognitions/{id}`: returns the stored result of a job, pending or not.
#[utoipa::path(
    get, path = "/v1/recognitions/{id}", operation_id = "recognitions_find", tag = "Recognition", summary = "Get a result", params(("id" = String, Path, description = "The id of the job")),
    responses((status = 200, description = "The result, pending or not", body = RecognitionAnswer), Problems)
)]
pub async fn find(req: HttpRequest, path: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&path)?;
    let result = state.web.result(id).await?.ok_or_else(|| no_such_job(id))?;
    let body = RecognitionBody::stored(result)?;
    if let Some((gallery, names)) = body.people() {
        audit_guard::seen(&req, &state, gallery, names);
    }
    Ok(HttpResponse::Ok().json(body))
}

/// `DELETE /v1/recognitions/{id}`: deletes image, label and result.
#[utoipa::path(
    delete, path = "/v1/recognitions/{id}", operation_id = "recognitions_delete", tag = "Recognition", summary = "Delete a result with its photo", params(("id" = String, Path, description = "The id of the job")),
    responses((status = 204, description = "It is deleted"), Problems)
)]
pub async fn delete(path: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&path)?;
    if !state.web.delete_result(id).await? {
        return Err(no_such_job(id));
    }
    Ok(HttpResponse::NoContent().finish())
}

/// What the jobs of a request have in common.
struct Request {
    gallery: GalleryName,
    /// The id of its only job, if it has an idempotency key.
    id: Option<JobId>,
}

async fn receive_all(req: &HttpRequest, payload: web::Payload, state: &State) -> Result<(Received, Request), Problem> {
    let received = receive(req, payload, &state.web).await?;
    let gallery = existing_gallery(req, state).await?;
    let Some(key) = req.headers().get(IDEMPOTENCY_KEY) else { return Ok((received, Request { gallery, id: None })) };
    let [file] = received.files.as_slice() else {
        return Err(Problem::bad_request("an Idempotency-Key applies to one file; send each file in its own request"));
    };
    let id = job_id_of_key(key.as_bytes(), &file.bytes, &gallery, caller(req).token.as_ref())?;
    Ok((received, Request { gallery, id: Some(id) }))
}

async fn wait_for_all(state: &State, files: Vec<ReceivedFile>, request: &Request) -> Vec<Outcome> {
    join_all(files.into_iter().map(|file| wait_for(state, file, request))).await
}

/// Recognises one file and waits for the reply.
async fn wait_for(state: &State, file: ReceivedFile, request: &Request) -> Outcome {
    let name = file.name.clone();
    let result = async {
        file.check(state.web.settings().recognition.max_pixels).await?;
        let (admission, upload) = job(file, request);
        let file = upload.file.clone();
        RecognitionBody::replied(file, state.web.submit(admission, upload, request.id.is_some()).await?)
    };
    Outcome { file: name, result: result.await }
}

/// Queues one file without waiting for the reply. A retry with the same key returns the original job.
async fn queue(state: &State, file: ReceivedFile, request: &Request) -> Outcome {
    let name = file.name.clone();
    let result = async {
        file.check(state.web.settings().recognition.max_pixels).await?;
        if let Some(id) = request.id {
            match state.web.stored(id).await? {
                Stored::Result(result) => return RecognitionBody::stored(*result),
                Stored::Deleted(_) => return Err(SubmitError::Deleted { id }.into()),
                Stored::Absent => {}
            }
        }
        let (admission, upload) = job(file, request);
        let (id, file) = (upload.id, upload.file.clone());
        state.web.submit_async(admission, upload).await?;
        Ok(RecognitionBody::pending(id, file))
    };
    Outcome { file: name, result: result.await }
}

fn job(file: ReceivedFile, request: &Request) -> (Admission, Upload) {
    let (id, gallery) = (request.id.unwrap_or_else(JobId::new), request.gallery.clone());
    (file.admission, Upload { id, kind: RECOGNISE, gallery, file: file.name, image: file.bytes })
}

/// Returns the first file's problem if every file has failed.
fn unless_all_failed(mut outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Problem> {
    if outcomes.iter().any(|outcome| outcome.result.is_ok()) {
        return Ok(outcomes);
    }
    match outcomes.remove(0).result {
        Err(problem) => Err(problem),
        Ok(_) => unreachable!("every outcome is a problem"),
    }
}

fn ids<'a>(bodies: impl IntoIterator<Item = &'a RecognitionBody>) -> String {
    bodies.into_iter().filter_map(|body| body.id.as_deref()).collect::<Vec<_>>().join(",")
}

fn line(outcome: &Outcome, style: ReplyStyle) -> String {
    let text = match &outcome.result {
        Ok(body) => one_line(body.label().unwrap_or_default()),
        Err(problem) => format!("error: {}", problem.line()),
    };
    match style {
        ReplyStyle::Label => text,
        ReplyStyle::StemLabel => format!("{}:{text}", stem(&outcome.file)),
    }
}

/// Returns whether `respond-async` is among the preferences (RFC 7240).
fn prefers_async(prefer: &str) -> bool {
    prefer
        .split(',')
        .filter_map(|preference| preference.split(';').next())
        .any(|p| p.trim().eq_ignore_ascii_case("respond-async"))
}

/// Returns the job id that is derived from an idempotency key, if that is one.
fn job_id_of_key(key: &[u8], image: &[u8], gallery: &GalleryName, token: Option<&TokenId>) -> Result<JobId, Problem> {
    if key.is_empty() || key.len() > MAX_KEY || !key.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::bad_request(format!(
            "an Idempotency-Key must be 1 to {MAX_KEY} visible ASCII characters"
        )));
    }
    Ok(derived_id(key, image, gallery, token))
}

/// Derives the job id from the idempotency key and the image: the first 128 bits of the SHA-256 of the key, a
/// zero byte (which no key contains) and the image. The same key with another image is another job, so it never gets
/// the result for the first image. Nor with another gallery, whose name comes first, unless it is the default one; nor
/// with another token, whose id comes before that.
pub(crate) fn derived_id(key: &[u8], image: &[u8], gallery: &GalleryName, token: Option<&TokenId>) -> JobId {
    let gallery = if gallery.is_default() { String::new() } else { format!("{gallery}\0") };
    let token = token.map_or_else(String::new, |id| format!("token:{id}\0"));
    let digest = Sha256::new()
        .chain_update(token)
        .chain_update(gallery)
        .chain_update(key)
        .chain_update([0])
        .chain_update(image)
        .finalize();
    let first: [u8; 16] = std::array::from_fn(|i| digest[i]);
    JobId(u128::from_be_bytes(first))
}

/// Reads the id of a job in a path.
pub(super) fn parse_id(text: &str) -> Result<JobId, Problem> {
    text.parse()
        .map_err(|_| Problem::bad_request(format!("{text:?} is not a valid id: expected 26 letters and digits")))
}

fn no_such_job(id: JobId) -> Problem {
    Problem::not_found(format!("there is no recognition {}", location(id))).id(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed(file: &str, problem: Problem) -> Outcome {
        Outcome { file: file.into(), result: Err(problem) }
    }

    #[test]
    fn a_preference_is_found_among_others() {
        for prefer in ["respond-async", "wait=10, Respond-Async", "respond-async; x=1, wait=2"] {
            assert!(prefers_async(prefer), "{prefer}");
        }
        for prefer in ["", "wait=10", "respond-asynchronously", "handling=respond-async"] {
            assert!(!prefers_async(prefer), "{prefer}");
        }
    }

    #[test]
    fn the_job_id_depends_only_on_key_image_gallery_and_token() {
        let default = GalleryName::default();
        let id = |key: &str, image: &[u8]| job_id_of_key(key.as_bytes(), image, &default, None).expect("a key");
        assert_eq!(id("a", b"1"), id("a", b"1"));
        assert_ne!(id("a", b"1"), id("b", b"1"));
        assert_ne!(id("a", b"1"), id("a", b"2"));
        assert_ne!(id("a", b"b1"), id("ab", b"1"));
        let other = GalleryName::try_from("b".to_owned()).expect("a name");
        let token = TokenId("t".into());
        assert_ne!(job_id_of_key(b"a", b"1", &default, Some(&token)).expect("a key"), id("a", b"1"));
        assert_ne!(job_id_of_key(b"a", b"1", &other, None).expect("a key"), id("a", b"1"));
        for bad in ["", "a b", "é", "x\ty", &"k".repeat(256)] {
            assert_eq!(
                job_id_of_key(bad.as_bytes(), b"1", &default, None).expect_err("refused").status,
                400,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn failed_files_are_named_and_if_all_fail_the_first_problem_is_returned() {
        let outcomes = vec![failed("a.jpg", Problem::too_large("x")), failed("b.jpg", Problem::bad_request("y"))];
        assert_eq!(line(&outcomes[1], ReplyStyle::StemLabel), "b:error: y");
        assert_eq!(line(&outcomes[1], ReplyStyle::Label), "error: y");
        assert_eq!(unless_all_failed(outcomes).err().expect("a problem").status, 413);

        let mixed = vec![
            failed("a.jpg", Problem::too_large("x")),
            Outcome { file: "b.jpg".into(), result: Ok(RecognitionBody::pending(JobId(1), "b.jpg".into())) },
        ];
        assert_eq!(unless_all_failed(mixed).expect("kept").len(), 2);
    }

    proptest! {
        #[test]
        fn ids_round_trip_through_text(bits: u128) {
            let id = JobId(bits);
            prop_assert_eq!(parse_id(&id.to_string()).expect("an id"), id);
        }
    }
}

//! Images in a form or, in base64, in JSON; and what workers find in them.

use std::borrow::Cow;

use actix_web::{HttpRequest, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{json::parsed_object, refusal::Refusal};
use crate::{
    client::Admission,
    http::{
        code,
        error::Problem,
        recognition_body::recognition,
        state::State,
        upload::{FormOrJson, ReceivedFile, receive_form_or_json},
        web_tier::{Upload, WebTier},
    },
    job::JobId,
    recognition::{GalleryName, Identification, Recognition, Task},
    settings::RecogniserKind,
};

/// The field with an image.
pub(super) const FILE: &str = "file";
/// The field with the image of one person, in verification.
pub(super) const SOURCE: &str = "source_image";
/// The field with the image in which that person is looked for.
pub(super) const TARGET: &str = "target_image";
/// JSON up to this size, in bytes, is parsed on the thread that has received it.
const MAX_PARSED_HERE: usize = 64 << 10;

/// Receives one image for each of the fields, in their order, and checks that it can be an image.
pub(super) async fn receive_images<const N: usize>(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
    fields: [&'static str; N],
) -> Result<[ReceivedFile; N], Refusal> {
    if web.settings().recognition.kind != RecogniserKind::Face {
        let why = "this server runs a classifier (recognition.kind), which finds no faces";
        return Err(Refusal::with_status(actix_web::http::StatusCode::CONFLICT, code::UNDEFINED, why));
    }
    let mut images = match receive_form_or_json(req, payload, web).await? {
        FormOrJson::Form(form) => form.files,
        FormOrJson::Json(json, admission) => decode_images(json, admission, web, &fields).await?,
    };
    let mut found = Vec::with_capacity(N);
    for field in fields {
        let Some(at) = images.iter().position(|image| image.field == field) else {
            return Err(Refusal::new(code::MISSING_PART, format!("Required part {field} is missing")));
        };
        let image = images.swap_remove(at);
        if image.bytes.is_empty() {
            return Err(Refusal::new(code::BAD_FILE, format!("the file {} is empty", image.name)));
        }
        image.check(web.settings().recognition.max_pixels).await.map_err(Refusal::bad_image)?;
        found.push(image);
    }
    Ok(found.try_into().unwrap_or_else(|_| unreachable!("there is one image for each field")))
}

/// Decodes the fields of a JSON object, which are base64.
async fn decode_images(
    json: Bytes,
    mut admission: Admission,
    web: &WebTier,
    fields: &[&'static str],
) -> Result<Vec<ReceivedFile>, Refusal> {
    web.reserve(&mut admission, json.len() / 4 * 3)?; // what the base64 in it stands for
    let names = fields.to_vec();
    let decoded = if json.len() > MAX_PARSED_HERE {
        let decoded = web::block(move || decode(&json, &names)).await;
        decoded.map_err(|_| Problem::unavailable("the server is shutting down", std::time::Duration::from_secs(1)))?
    } else {
        decode(&json, &names)
    }?;
    let mut admissions = vec![admission];
    for _ in 1..decoded.len() {
        admissions.push(web.admit()?);
    }
    let images = fields.iter().zip(decoded).zip(admissions);
    let images = images.map(|((field, bytes), admission)| ReceivedFile {
        field: (*field).to_owned(),
        name: (*field).to_owned(),
        bytes,
        admission,
    });
    Ok(images.collect())
}

/// The images in a JSON object, in base64.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Images<'a> {
    #[serde(borrow)]
    file: Option<Cow<'a, str>>,
    #[serde(borrow)]
    source_image: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target_image: Option<Cow<'a, str>>,
}

fn decode(json: &[u8], fields: &[&'static str]) -> Result<Vec<Bytes>, Refusal> {
    let images: Images<'_> = parsed_object(json)?;
    let decoded = fields.iter().map(|field| {
        let text = match *field {
            SOURCE => &images.source_image,
            TARGET => &images.target_image,
            _ => &images.file,
        };
        let text = text.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| Refusal::empty_field(field))?;
        let decoded = STANDARD.decode(text).map(Bytes::from);
        decoded.map_err(|_| Refusal::new(code::BAD_FILE, "Provided value is not Base64"))
    });
    decoded.collect()
}

/// Has a worker perform a task, of which nothing is kept, and returns its result.
pub(super) async fn perform(
    state: &State,
    task: Task,
    gallery: GalleryName,
    file: ReceivedFile,
) -> Result<Bytes, Refusal> {
    // From the version that this sees, workers know that a gallery which they have not read is not empty.
    state.web.gallery_exists(&gallery).await?;
    let upload = Upload { id: JobId::new(), kind: task.kind(), gallery, file: file.name, image: file.bytes };
    let reply = state.web.submit(file.admission, upload, false).await?;
    reply.outcome.map_err(|failure| Refusal::bad_image(failure.into()))
}

/// Finds and embeds the faces of an image, and finds up to `count` people of a gallery for each.
pub(super) async fn identify(
    state: &State,
    gallery: GalleryName,
    count: usize,
    file: ReceivedFile,
) -> Result<Identification, Refusal> {
    let found = perform(state, Task::Identify(count), gallery, file).await?;
    serde_json::from_slice(&found).map_err(|_| Refusal::other_version())
}

/// Finds and embeds the faces of an image.
pub(super) async fn embed(state: &State, file: ReceivedFile) -> Result<Recognition, Refusal> {
    let found = perform(state, Task::Embed, GalleryName::default(), file).await?; // faces are embedded without a gallery
    Ok(recognition(&found)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Result<Vec<Bytes>, (u16, Option<u16>)> {
        decode(json.as_bytes(), &["file"]).map_err(|refusal| refusal.code_for_tests())
    }

    #[test]
    fn an_image_in_json_is_base64() {
        assert_eq!(decoded(r#"{"file": "AAEC/w=="}"#), Ok(vec![Bytes::from_static(&[0, 1, 2, 255])]));
        assert_eq!(
            decoded(r#"{"x": [[1, {}], "y"], "file": "AAEC\/w=="}"#),
            Ok(vec![Bytes::from_static(&[0, 1, 2, 255])])
        );
        for (json, code) in [
            ("{}", code::EMPTY_FIELD),
            (r#"{"file": ""}"#, code::EMPTY_FIELD),
            (r#"{"file": null}"#, code::EMPTY_FIELD),
            (r#"{"file": "data:image/png;base64,AAEC"}"#, code::BAD_FILE),
            (r#"{"file": "AAE"}"#, code::BAD_FILE),
            (r#"{"file": "🙂🙂"}"#, code::BAD_FILE),
            (r#"{"file": 7}"#, code::UNDEFINED),
            (r#"{"file": "AAEC""#, code::UNDEFINED),
            ("[]", code::UNDEFINED),
            ("", code::UNDEFINED),
        ] {
            assert_eq!(decoded(json), Err((400, Some(code))), "{json}");
        }
    }
}

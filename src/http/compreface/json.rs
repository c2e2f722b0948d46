//! Bodies in JSON. They are read into types, because a tree of values may take thirty times the memory of its text.

use actix_web::{HttpRequest, http::StatusCode, web};
use bytes::Bytes;
use serde::Deserialize;

use super::refusal::Refusal;
use crate::{
    client::Admission,
    http::{
        code,
        upload::{FormOrJson, receive_form_or_json},
        web_tier::WebTier,
    },
};

/// Receives JSON of at most `max` bytes.
///
/// # Errors
/// The body is something else, or larger.
pub(super) async fn receive_json(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
    max: usize,
) -> Result<(Bytes, Admission), Refusal> {
    match receive_form_or_json(req, payload, web).await? {
        FormOrJson::Json(json, _) if json.len() > max => {
            let why = format!("the JSON is larger than {max} bytes");
            Err(Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, code::UNDEFINED, why))
        }
        FormOrJson::Json(json, admission) => Ok((json, admission)),
        FormOrJson::Form(_) => Err(Refusal::new(code::UNDEFINED, "the body should be JSON")),
    }
}

/// Reads a JSON object.
///
/// # Errors
/// It is none, or not of this type.
pub(super) fn parsed_object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Refusal> {
    // Types with named fields would be read from an array, too.
    match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => parsed(json),
        _ => Err(Refusal::new(code::UNDEFINED, "the body should be a JSON object")),
    }
}

/// Reads JSON.
///
/// # Errors
/// It is not of this type.
pub(super) fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Refusal> {
    let what = |error| Refusal::new(code::UNDEFINED, format!("the JSON is not what is expected: {error}"));
    serde_json::from_slice(json).map_err(what)
}

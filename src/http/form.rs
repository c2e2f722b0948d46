//! Uploads as they arrive: read as a stream, counted while they come, kept in memory within limits, never in files.

use std::{collections::BTreeMap, time::Duration};

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{
    HttpRequest,
    error::PayloadError,
    http::{StatusCode, header},
    web::Payload,
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::{error::ApiError, filename};
use crate::{
    actors::web_tier::{Admission, WebTier},
    inference::decode::inspect,
};

/// Fields that hold a photo even if the part has no file name.
const FILE_FIELDS: [&str; 2] = ["myfile", "inputFile"];
/// Longest value of a field that is not a photo.
const MAX_FIELD: usize = 4096;
/// What multipart may add to the files themselves.
const OVERHEAD: usize = 64 << 10;
/// After a refusal, so much of the rest is read and thrown away, so that the client reads the answer instead of
/// failing to write.
const DRAIN: (usize, Duration) = (128 << 20, Duration::from_secs(5));
/// How to send a photo.
const HOW: &str = "send a photo as multipart/form-data in the field `myfile`: curl -F myfile=@photo.jpg URL";

/// A photo that was received, with its place among the waiting.
pub struct Photo {
    /// Made safe.
    pub file: String,
    pub bytes: Bytes,
    pub admission: Admission,
}

impl Photo {
    /// Whether it looks like an image that can be read: from its header alone, before it is queued.
    pub fn check(&self, web: &WebTier) -> Result<(), ApiError> {
        Ok(inspect(&self.bytes, web.settings().recognition.max_pixels).map(drop)?)
    }
}

/// Everything in an upload.
#[derive(Default)]
pub struct Form {
    pub photos: Vec<Photo>,
    pub fields: BTreeMap<String, String>,
}

/// Reads an upload: multipart, or one image as the body itself. At least one photo.
pub async fn read(web: &WebTier, request: &HttpRequest, payload: Payload) -> Result<Form, ApiError> {
    let limit = web.settings().http.upload_timeout;
    let late = || ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("the upload took more than {} s", limit.as_secs()));
    let mut payload = payload;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = content_type.parse::<mime::Mime>().ok();
    let form = match kind {
        Some(mime) if mime.type_() == mime::MULTIPART => {
            let mut multipart = Multipart::new(request.headers(), payload);
            let read = tokio::time::timeout(limit, read_multipart(web, request, &mut multipart)).await;
            let form = read.unwrap_or_else(|_| Err(late()));
            if form.is_err() {
                let _ = tokio::time::timeout(DRAIN.1, drain_multipart(&mut multipart)).await;
            }
            form
        }
        Some(mime) if mime.type_() == mime::IMAGE => {
            let read = tokio::time::timeout(limit, read_image(web, request, &mut payload)).await;
            let form = read.unwrap_or_else(|_| Err(late()));
            if form.is_err() {
                let _ = tokio::time::timeout(DRAIN.1, drain(&mut payload)).await;
            }
            form
        }
        _ => {
            let _ = tokio::time::timeout(DRAIN.1, drain(&mut payload)).await;
            Err(ApiError::bad_request(HOW))
        }
    }?;
    if form.photos.is_empty() {
        return Err(ApiError::bad_request(format!("there is no file in the upload; {HOW}")));
    }
    Ok(form)
}

fn check_length(web: &WebTier, request: &HttpRequest) -> Result<(), ApiError> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(length) if length > web.settings().http.max_upload + OVERHEAD => Err(over_limit(web)),
        _ => Ok(()),
    }
}

fn over_limit(web: &WebTier) -> ApiError {
    let limit = bytesize::ByteSize(web.settings().http.max_upload as u64).display().iec();
    ApiError::too_large(format!("the upload is too large; the limit is {limit} in all"))
}

async fn read_multipart(web: &WebTier, request: &HttpRequest, multipart: &mut Multipart) -> Result<Form, ApiError> {
    check_length(web, request)?;
    // A place first: who has to wait is told so before its photo is read.
    let mut admission = Some(web.admit()?);
    let mut form = Form::default();
    let mut total = 0;
    while let Some(field) = multipart.next().await {
        let field = field.map_err(broken)?;
        let disposition = field.content_disposition();
        let name = field.name().unwrap_or_default().to_owned();
        let given = disposition.and_then(|d| {
            let extended = d.get_filename_ext().and_then(|ext| String::from_utf8(ext.value.clone()).ok());
            extended.or_else(|| d.get_filename().map(str::to_owned))
        });
        if given.is_none() && !FILE_FIELDS.contains(&name.as_str()) {
            form.fields.insert(name, read_text(field).await?);
            continue;
        }
        if form.photos.len() == web.settings().http.max_files {
            return Err(ApiError::too_large(format!("more than {} files in one upload", form.photos.len())));
        }
        let mut admission = match admission.take() {
            Some(first) => first,
            None => web.admit()?,
        };
        let bytes = read_photo(web, field, &mut total, &mut admission).await?;
        if bytes.is_empty() && given.as_deref() == Some("") {
            continue; // a browser's file field in which nothing was chosen
        }
        form.photos.push(Photo { file: filename::safe(&given.unwrap_or_default()), bytes, admission });
    }
    Ok(form)
}

async fn read_photo(
    web: &WebTier,
    mut field: Field,
    total: &mut usize,
    admission: &mut Admission,
) -> Result<Bytes, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(broken)?;
        take_chunk(web, &mut bytes, &chunk, total, admission)?;
    }
    Ok(bytes.freeze())
}

fn take_chunk(
    web: &WebTier,
    bytes: &mut BytesMut,
    chunk: &[u8],
    total: &mut usize,
    admission: &mut Admission,
) -> Result<(), ApiError> {
    *total += chunk.len();
    if *total > web.settings().http.max_upload {
        return Err(over_limit(web));
    }
    web.reserve(admission, chunk.len())?;
    bytes.extend_from_slice(chunk);
    Ok(())
}

async fn read_text(mut field: Field) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.next().await {
        bytes.extend_from_slice(&chunk.map_err(broken)?);
        if bytes.len() > MAX_FIELD {
            return Err(ApiError::too_large(format!("a text field is over {MAX_FIELD} bytes")));
        }
    }
    String::from_utf8(bytes).map_err(|_| ApiError::bad_request("a text field is not UTF-8"))
}

async fn read_image(web: &WebTier, request: &HttpRequest, payload: &mut Payload) -> Result<Form, ApiError> {
    check_length(web, request)?;
    let mut admission = web.admit()?;
    let (mut bytes, mut total) = (BytesMut::new(), 0);
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| incomplete(&error))?;
        take_chunk(web, &mut bytes, &chunk, &mut total, &mut admission)?;
    }
    let disposition = request.headers().get(header::CONTENT_DISPOSITION);
    let given = disposition.and_then(|v| header::ContentDisposition::from_raw(v).ok());
    let file = filename::safe(given.as_ref().and_then(|d| d.get_filename()).unwrap_or_default());
    Ok(Form { photos: vec![Photo { file, bytes: bytes.freeze(), admission }], fields: BTreeMap::new() })
}

async fn drain_multipart(multipart: &mut Multipart) {
    let mut left = DRAIN.0;
    while let Some(Ok(mut field)) = multipart.next().await {
        while let Some(Ok(chunk)) = field.next().await {
            left = left.saturating_sub(chunk.len());
            if left == 0 {
                return;
            }
        }
    }
}

async fn drain(payload: &mut Payload) {
    let mut left = DRAIN.0;
    while let Some(Ok(chunk)) = payload.next().await {
        left = left.saturating_sub(chunk.len());
        if left == 0 {
            return;
        }
    }
}

fn broken(error: MultipartError) -> ApiError {
    ApiError::bad_request(format!("the upload is not complete multipart/form-data ({error}); {HOW}"))
}

fn incomplete(error: &PayloadError) -> ApiError {
    ApiError::bad_request(format!("the upload is not complete ({error})"))
}

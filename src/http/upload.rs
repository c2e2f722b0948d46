//! Receives uploads: streams multipart or raw bodies into memory, within the limits, never onto disk.

use std::time::Duration;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{
    HttpRequest,
    error::PayloadError,
    http::{
        StatusCode,
        header::{self, ContentDisposition},
    },
    web,
};
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{Stream, StreamExt};
use tokio::time::Instant;

use super::{
    access::caller,
    body::Body,
    client_address::client_address,
    error::Problem,
    names::{UNNAMED, safe_file_name},
    rate_limits::Client,
    receiving::ReceiveDeadline,
    web_tier::WebTier,
};
use crate::{client::Admission, inference::vision::decode, job::Failure, settings::Http};

/// Fields that hold a file even if the part has no file name.
const FILE_FIELDS: [&str; 2] = ["myfile", "inputFile"];
/// Files up to this size, in bytes, are inspected on the thread that has received them, which takes less time than to
/// hand them over. The markers of a JPEG that consists of nothing else take 8 ms per MiB.
const MAX_INSPECTED_HERE: usize = 256 << 10;
/// Initial capacity of a file's buffer, in bytes; it doubles as needed.
const INITIAL_CAPACITY: usize = 16 << 10;
/// Maximum size of a text field of a form, in bytes.
const MAX_TEXT_BYTES: usize = 4 << 10;
/// Maximum number of text fields in one form.
const MAX_TEXT_FIELDS: usize = 32;
const HOW_TO_SEND: &str = "send the photo as multipart/form-data in the field `myfile`, \
                           e.g. curl -F myfile=@photo.jpg, or raw with Content-Type: image/jpeg";

/// A file in memory, with its place among the waiting uploads.
pub struct ReceivedFile {
    /// The field of the form; empty if the body is the file.
    pub field: String,
    /// Sanitised file name.
    pub name: String,
    pub bytes: Bytes,
    pub admission: Admission,
}

impl ReceivedFile {
    /// Checks the image's header, and that a JPEG is complete, so that most files that cannot be decoded are refused
    /// before they are queued.
    pub async fn check(&self, max_pixels: u64) -> Result<(), Problem> {
        if self.bytes.is_empty() {
            return Err(Problem::bad_request(format!("the file {} is empty", self.name)));
        }
        let inspected = if self.bytes.len() <= MAX_INSPECTED_HERE {
            decode::inspect(&self.bytes, max_pixels)
        } else {
            let bytes = self.bytes.clone();
            let inspected = web::block(move || decode::inspect(&bytes, max_pixels)).await;
            inspected.map_err(|_| Problem::unavailable("the server is shutting down", Duration::from_secs(1)))?
        };
        inspected.map_err(Failure::from)?;
        Ok(())
    }
}

/// The content of a request's body.
#[derive(Default)]
pub struct Received {
    /// In the order of the form.
    pub files: Vec<ReceivedFile>,
    /// Text fields by name.
    pub texts: Vec<(String, String)>,
}

/// Reads a body that contains files. After an error other than a timeout, drains what the client is still sending, within
/// bounds.
pub async fn receive(req: &HttpRequest, payload: web::Payload, web: &WebTier) -> Result<Received, Problem> {
    let received = receive_with(req, payload, web, async |body, admission| {
        let content_type = header_text(req, header::CONTENT_TYPE).to_ascii_lowercase();
        read_files(req, body, web, &content_type, admission).await
    });
    received.await
}

/// The content of a body that is a form or JSON.
pub(super) enum FormOrJson {
    /// A form, which may have no file.
    Form(Received),
    /// JSON that has not been parsed yet, with its place among the waiting uploads.
    Json(Bytes, Admission),
}

/// Reads a body that is a form or JSON, as [`receive`] does.
pub(super) async fn receive_form_or_json(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
) -> Result<FormOrJson, Problem> {
    let received = receive_with(req, payload, web, async |body, mut admission| {
        let http = &web.settings().http;
        let content_type = header_text(req, header::CONTENT_TYPE).to_ascii_lowercase();
        if content_type.starts_with("multipart/") {
            let form = read_form(Multipart::new(req.headers(), body), web, http, admission).await?;
            return Ok(FormOrJson::Form(form));
        }
        if !content_type.starts_with("application/json") {
            let detail = format!("Content-Type {content_type:?} is not supported; send multipart/form-data or JSON");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let bytes = collect(body, web, &mut admission, |error| payload_problem(&error, http)).await?;
        Ok(FormOrJson::Json(bytes, admission))
    });
    received.await
}

/// Reads a body with `read`, which gets a place among the waiting uploads. After an error other than a timeout, drains what
/// the client is still sending, within bounds.
async fn receive_with<T>(
    req: &HttpRequest,
    payload: web::Payload,
    web: &WebTier,
    read: impl AsyncFnOnce(Body, Admission) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let http = &web.settings().http;
    let body = Body::new(payload, http.max_upload);
    let client = Client::of(req, Some(&caller(req)), http);
    let deadline = ReceiveDeadline { min_rate: http.min_upload_rate, timeout: http.upload_timeout };
    let read = async {
        if content_length(req).is_some_and(|length| length > http.max_upload as u64) {
            return Err(over_limit(http));
        }
        web.limits().upload(&client, content_length(req).unwrap_or(0) as usize)?;
        let _receiving = web.receiving(client_address(req, http))?;
        read(body.clone(), web.admit()?).await
    };
    let read = before_deadline(deadline, &body, read).await;
    super::metrics::uploaded(body.read());
    match read {
        Ok(Ok(received)) => {
            if content_length(req).is_none() {
                web.limits().upload(&client, body.read())?;
            }
            Ok(received)
        }
        Ok(Err(problem)) => Err(problem.close_connection(!body.drain().await)),
        Err(Slow { after }) => {
            let why = if after == http.upload_timeout {
                format!("did not arrive within {} s", after.as_secs())
            } else {
                format!("arrived at less than {} per second", ByteSize::b(http.min_upload_rate as u64).display().iec())
            };
            let detail = format!("the upload {why}; use a faster connection or send a smaller file");
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail).close_connection(true))
        }
    }
}

/// An upload that has missed its deadline.
struct Slow {
    /// The time that it was allowed.
    after: Duration,
}

/// Runs `read` until the deadline of the body that it reads.
async fn before_deadline<T>(deadline: ReceiveDeadline, body: &Body, read: impl Future<Output = T>) -> Result<T, Slow> {
    let start = Instant::now();
    let mut read = std::pin::pin!(read);
    loop {
        let allowed = deadline.allowed(body.read());
        match tokio::time::timeout_at(start + allowed, &mut read).await {
            Ok(done) => return Ok(done),
            Err(_) if deadline.allowed(body.read()) > allowed => {}
            Err(_) => return Err(Slow { after: allowed }),
        }
    }
}

async fn read_files(
    req: &HttpRequest,
    mut body: Body,
    web: &WebTier,
    content_type: &str,
    mut admission: Admission,
) -> Result<Received, Problem> {
    let http = &web.settings().http;
    if content_type.starts_with("multipart/") {
        let read = read_form(Multipart::new(req.headers(), body.clone()), web, http, admission).await;
        return match read {
            Ok(received) if received.files.is_empty() => {
                Err(Problem::bad_request(format!("the form has no file; {HOW_TO_SEND}")))
            }
            Err(_) if body.read() == 0 => Err(empty_body()),
            read => read,
        };
    }
    if !content_type.starts_with("image/") && !content_type.starts_with("application/octet-stream") {
        return Err(match body.next().await {
            None => empty_body(),
            Some(_) => Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("uploads with Content-Type {content_type:?} are not supported; {HOW_TO_SEND}"),
            ),
        });
    }
    let bytes = collect(body, web, &mut admission, |error| payload_problem(&error, http)).await?;
    if bytes.is_empty() {
        return Err(empty_body());
    }
    let disposition = ContentDisposition::from_raw(&header_value(req, header::CONTENT_DISPOSITION)).ok();
    let name = disposition.as_ref().and_then(file_name).unwrap_or_default();
    let file = ReceivedFile { field: String::new(), name: safe_file_name(&name), bytes, admission };
    Ok(Received { files: vec![file], texts: vec![] })
}

async fn read_form(
    mut form: Multipart,
    web: &WebTier,
    http: &Http,
    first_admission: Admission,
) -> Result<Received, Problem> {
    let mut received = Received::default();
    let mut next_admission = Some(first_admission);
    while let Some(field) = form.next().await {
        let mut field = field.map_err(|error| form_problem(error, http))?;
        let Some(raw_name) = part_file_name(&field) else {
            let text = read_text(&mut field, http).await?;
            received.texts.push((field.name().unwrap_or_default().to_owned(), text));
            if received.texts.len() > MAX_TEXT_FIELDS {
                return Err(Problem::too_large(format!("more than {MAX_TEXT_FIELDS} text fields in one form")));
            }
            continue;
        };
        if received.files.len() == http.max_files {
            return Err(Problem::too_large(format!("more than {} files in one upload; send several", http.max_files)));
        }
        let mut admission = match next_admission.take() {
            Some(admission) => admission,
            None => web.admit()?,
        };
        let bytes = collect(&mut field, web, &mut admission, |error| form_problem(error, http)).await?;
        if bytes.is_empty() && raw_name.is_empty() {
            // No file was chosen in a browser's form; the next file uses this admission.
            next_admission = Some(admission);
            continue;
        }
        let field = field.name().unwrap_or_default().to_owned();
        received.files.push(ReceivedFile { field, name: safe_file_name(&raw_name), bytes, admission });
    }
    Ok(received)
}

/// Returns the client's file name if the part is a file: if it has a file name, or its field is one of [`FILE_FIELDS`].
fn part_file_name(field: &Field) -> Option<String> {
    file_name_of_part(field.content_disposition()?)
}

fn file_name_of_part(disposition: &ContentDisposition) -> Option<String> {
    let by_field = disposition.get_name().is_some_and(|name| FILE_FIELDS.contains(&name));
    file_name(disposition).or_else(|| by_field.then(|| UNNAMED.to_owned()))
}

fn file_name(disposition: &ContentDisposition) -> Option<String> {
    let extended = disposition.get_filename_ext().map(|name| String::from_utf8_lossy(&name.value).into_owned());
    extended.or_else(|| disposition.get_filename().map(str::to_owned))
}

/// Collects all bytes of a stream. Memory is reserved before it is allocated.
async fn collect<E>(
    mut stream: impl Stream<Item = Result<Bytes, E>> + Unpin,
    web: &WebTier,
    admission: &mut Admission,
    problem: impl Fn(E) -> Problem,
) -> Result<Bytes, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(&problem)?;
        let needed = bytes.len() + chunk.len();
        if bytes.capacity() < needed {
            // Doubles, but never beyond `http.max_upload`, so that any permitted upload fits if that much is free.
            let capacity = needed.max((2 * bytes.len()).max(INITIAL_CAPACITY).min(web.settings().http.max_upload));
            web.reserve(admission, capacity - bytes.capacity())?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}

async fn read_text(field: &mut Field, http: &Http) -> Result<String, Problem> {
    let name = field.name().unwrap_or_default().to_owned();
    let bytes = match field.bytes(MAX_TEXT_BYTES).await {
        Ok(read) => read.map_err(|error| form_problem(error, http))?,
        Err(_) => return Err(Problem::too_large(format!("the field {name:?} is longer than {MAX_TEXT_BYTES} bytes"))),
    };
    String::from_utf8(bytes.into()).map_err(|_| Problem::bad_request(format!("the field {name:?} is not UTF-8 text")))
}

fn content_length(req: &HttpRequest) -> Option<u64> {
    header_text(req, header::CONTENT_LENGTH).parse().ok()
}

fn header_value(req: &HttpRequest, name: header::HeaderName) -> header::HeaderValue {
    req.headers().get(name).cloned().unwrap_or_else(|| header::HeaderValue::from_static(""))
}

/// Returns a header's value, or "" if it is absent or not ASCII.
pub fn header_text(req: &HttpRequest, name: header::HeaderName) -> &str {
    req.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn empty_body() -> Problem {
    Problem::bad_request(format!("the body is empty; {HOW_TO_SEND}"))
}

fn over_limit(http: &Http) -> Problem {
    Problem::too_large(format!("the upload is larger than {}", ByteSize::b(http.max_upload as u64).display().iec()))
}

fn payload_problem(error: &PayloadError, http: &Http) -> Problem {
    match error {
        PayloadError::Overflow => over_limit(http),
        other => Problem::bad_request(format!("the upload was cut off: {other}")),
    }
}

fn form_problem(error: MultipartError, http: &Http) -> Problem {
    match error {
        MultipartError::Payload(error) => payload_problem(&error, http),
        MultipartError::Incomplete => Problem::bad_request("the form ends before its closing boundary; send it again"),
        other => Problem::bad_request(format!("the form cannot be read ({other}); {HOW_TO_SEND}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(disposition: &str) -> Option<String> {
        let raw = header::HeaderValue::from_str(disposition).expect("a header");
        file_name_of_part(&ContentDisposition::from_raw(&raw).expect("a disposition"))
    }

    #[test]
    fn a_part_with_a_file_name_or_a_file_field_is_a_file() {
        for (disposition, file) in [
            (r#"form-data; name="myfile"; filename="a.jpg""#, Some("a.jpg")),
            (r#"form-data; name="inputFile"; filename="b.png""#, Some("b.png")),
            (r#"form-data; name="anything"; filename="c.webp""#, Some("c.webp")),
            (r#"form-data; name="myfile""#, Some("upload")),
            (r#"form-data; name="inputFile""#, Some("upload")),
            (r#"form-data; name="myfile"; filename="""#, Some("")),
            (r#"form-data; name="name""#, None),
            (r#"form-data; name="x"; filename="a.jpg"; filename*=UTF-8''%E2%82%AC.jpg"#, Some("€.jpg")),
        ] {
            assert_eq!(chosen(disposition).as_deref(), file, "{disposition}");
        }
    }
}

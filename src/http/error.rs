//! Error responses: problem details (RFC 9457) under `/v1`, what CompreFace responds with under `/api/v1`, one line of
//! text elsewhere.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::{Value, json};

use super::code;
use crate::{
    client::SubmitError,
    cloud::CloudError,
    inference::gallery::store::GalleryError,
    job::{Failure, FailureKind, JobId, Retention},
};

/// Default `Retry-After`, for causes that do not supply one.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Header with the ids of a response's jobs, in the order of the files, separated by commas.
pub(super) const ID_HEADER: &str = "Rollcall-Id";

/// The format of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorFormat {
    /// `application/problem+json`.
    Problem,
    /// `{"message": …, "code": …}`, as CompreFace.
    CompreFace,
    /// One line of text.
    Line,
}

impl ErrorFormat {
    /// Returns the format of errors at `path`.
    pub(super) fn of(path: &str) -> Self {
        match path {
            _ if path == "/v1" || path.starts_with("/v1/") => Self::Problem,
            _ if path.starts_with("/api/v1/") => Self::CompreFace,
            _ => Self::Line,
        }
    }
}

/// An error and the details of its response.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// What is wrong and what to do about it.
    pub(super) detail: String,
    id: Option<JobId>,
    /// Whether the response has a `Location`, because a result is stored under the id if the job is finished.
    has_location: bool,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    /// Whether the connection is closed, because parts of the body were not read.
    close: bool,
    /// An extension member (RFC 9457, section 3.2).
    extra: Option<Box<(&'static str, Value)>>,
    /// Its code, in the API of CompreFace.
    code: Option<u16>,
}

impl Problem {
    /// Creates a problem with a status and a detail.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            detail,
            id: None,
            has_location: false,
            retry_after: None,
            allow: None,
            close: false,
            extra: None,
            code: None,
        }
    }

    /// Creates a problem with status 400.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Creates a problem with status 404.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// Creates a problem with status 413.
    pub(super) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// Creates a problem with status 429.
    pub(super) fn too_many(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// Creates a problem with status 503 and `Retry-After`.
    pub(super) fn unavailable(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// Adds the id of the job.
    pub(super) fn id(self, id: JobId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Adds the `Allow` header.
    pub(super) fn allow(self, methods: &'static str) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// Sets whether the connection is closed after the response.
    pub(super) fn close_connection(self, close: bool) -> Self {
        Self { close, ..self }
    }

    /// Sets the extension member.
    pub(super) fn with_extension(self, member: &'static str, value: Value) -> Self {
        Self { extra: Some(Box::new((member, value))), ..self }
    }

    /// Sets the code in the API of CompreFace.
    pub(super) fn code(self, code: u16) -> Self {
        Self { code: Some(code), ..self }
    }

    /// Returns the code in the API of CompreFace.
    fn compreface_code(&self) -> u16 {
        self.code.unwrap_or(if self.status.is_server_error() { code::FAILED } else { code::UNDEFINED })
    }

    /// Returns the code in the API of CompreFace, if it has one of its own.
    #[cfg(test)]
    pub(super) fn own_code(&self) -> Option<u16> {
        self.code
    }

    /// Returns the problem details object.
    pub(super) fn to_json(&self) -> Value {
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(id) = self.id {
            body["id"] = json!(id.to_string());
        }
        if let Some(extra) = &self.extra {
            body[extra.0] = extra.1.clone();
        }
        body
    }

    /// Returns the detail as one line.
    pub(super) fn line(&self) -> String {
        one_line(&self.detail)
    }

    /// Builds the response in `format`. Logs the detail of a 500.
    pub(super) fn respond(&self, format: ErrorFormat) -> HttpResponse {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(detail = %self.detail, "request failed");
        }
        let mut response = HttpResponse::build(self.status);
        if let Some(after) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, after.as_secs().max(1).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some(methods) = self.allow {
            response.insert_header((header::ALLOW, methods));
        }
        if let Some(id) = self.id {
            response.insert_header((ID_HEADER, id.to_string()));
        }
        if let (Some(id), true) = (self.id, self.has_location) {
            response.insert_header((header::LOCATION, location(id)));
        }
        if self.close {
            response.force_close();
        }
        match format {
            ErrorFormat::Problem => response.content_type("application/problem+json").body(self.to_json().to_string()),
            ErrorFormat::CompreFace => response.json(json!({ "message": self.detail, "code": self.compreface_code() })),
            ErrorFormat::Line => response.content_type("text/plain; charset=utf-8").body(self.line() + "\n"),
        }
    }
}

/// Returns the path of a job's result.
pub(super) fn location(id: JobId) -> String {
    format!("/v1/recognitions/{id}")
}

/// Replaces control characters, including line breaks, with spaces.
pub(super) fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.respond(ErrorFormat::Problem)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = match failure.kind {
            FailureKind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            FailureKind::Damaged => StatusCode::UNPROCESSABLE_ENTITY,
            FailureKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, failure.message)
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        match error {
            SubmitError::Overloaded { retry_after, .. } => Self::unavailable(detail, retry_after),
            SubmitError::Full(_) => Self::unavailable(detail, RETRY_AFTER),
            SubmitError::Cloud(cause) => cause.into(),
            SubmitError::Deleted { id } => Self { id: Some(id), ..Self::new(StatusCode::GONE, detail) },
            SubmitError::Deadline { id, .. } => {
                Self { id: Some(id), has_location: true, ..Self::new(StatusCode::GATEWAY_TIMEOUT, detail) }
            }
            SubmitError::Unanswered { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, detail),
            SubmitError::ShuttingDown => Self::unavailable(detail, RETRY_AFTER),
            SubmitError::Abandoned { id, retention } => Self {
                id: Some(id),
                has_location: retention == Retention::Keep,
                ..Self::unavailable(detail, RETRY_AFTER)
            },
        }
    }
}

impl From<CloudError> for Problem {
    fn from(error: CloudError) -> Self {
        if let CloudError::Conflict(what) = error {
            return Self::new(StatusCode::CONFLICT, what);
        }
        // The cause is logged and not sent, because it may reveal internals of the deployment.
        tracing::warn!(%error, "queue or store failed");
        Self::unavailable("the queue or the store is unavailable; try again", RETRY_AFTER)
    }
}

impl From<GalleryError> for Problem {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::Refused(reason) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason),
            GalleryError::Store(cause) => cause.into(),
            GalleryError::Index(cause) => {
                tracing::warn!(error = %cause, "the index of a gallery failed");
                Self::unavailable("the index of the gallery cannot be written; try again", RETRY_AFTER)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(response: &HttpResponse, name: header::HeaderName) -> Option<&str> {
        response.headers().get(name).map(|v| v.to_str().expect("ASCII"))
    }

    #[test]
    fn each_failure_has_its_status() {
        for (kind, status) in [
            (FailureKind::Unsupported, 415),
            (FailureKind::Damaged, 422),
            (FailureKind::TooLarge, 413),
            (FailureKind::Internal, 500),
        ] {
            assert_eq!(Problem::from(Failure::new(kind, "why")).status.as_u16(), status, "{kind:?}");
        }
    }

    #[test]
    fn errors_of_the_gallery_and_the_cloud_have_their_status() {
        let conflict = || CloudError::Conflict("others keep changing the gallery".into());
        let unavailable = || CloudError::Unavailable("no route to 10.0.0.1".into());
        for (problem, status, detail) in [
            (Problem::from(GalleryError::Refused("a name is empty".into())), 422, "a name is empty"),
            (Problem::from(GalleryError::Store(conflict())), 409, "others keep changing the gallery"),
            (
                Problem::from(GalleryError::Store(unavailable())),
                503,
                "the queue or the store is unavailable; try again",
            ),
            (Problem::from(SubmitError::Cloud(unavailable())), 503, "the queue or the store is unavailable; try again"),
        ] {
            assert_eq!((problem.status.as_u16(), problem.detail.as_str()), (status, detail));
            assert_eq!(header(&problem.respond(ErrorFormat::Problem), header::RETRY_AFTER).is_some(), status == 503);
        }
    }

    #[test]
    fn the_response_at_the_deadline_has_the_location_of_the_result() {
        let id = JobId(7);
        let problem = Problem::from(SubmitError::Deadline { id, waited: Duration::from_secs(3) });
        let response = problem.respond(ErrorFormat::Problem);
        assert_eq!(response.status(), 504);
        assert_eq!(header(&response, header::LOCATION), Some(location(id).as_str()));
        assert_eq!(problem.to_json()["id"], json!(id.to_string()));
        assert!(problem.line().contains(&id.to_string()), "the line has the id");
        let response =
            Problem::from(SubmitError::Unanswered { waited: Duration::from_secs(3) }).respond(ErrorFormat::Problem);
        assert_eq!((response.status().as_u16(), header(&response, header::LOCATION)), (504, None), "nothing is kept");
    }

    #[test]
    fn a_shutdown_response_has_a_location_only_if_a_result_may_be_stored() {
        let response = |error: SubmitError| {
            let response = Problem::from(error).respond(ErrorFormat::Problem);
            assert_eq!(response.status(), 503);
            assert!(header(&response, header::RETRY_AFTER).is_some());
            header(&response, header::LOCATION).map(str::to_owned)
        };
        let id = JobId(7);
        let abandoned = |retention| SubmitError::Abandoned { id, retention };
        assert_eq!(response(abandoned(Retention::Keep)), Some(location(id)));
        assert_eq!(response(abandoned(Retention::Discard)), None);
        assert_eq!(response(SubmitError::ShuttingDown), None);
    }

    #[test]
    fn an_overload_has_retry_after() {
        let busy =
            SubmitError::Overloaded { reason: "too many uploads are waiting", retry_after: Duration::from_millis(200) };
        let response = Problem::from(busy).respond(ErrorFormat::Line);
        assert_eq!(response.status(), 503);
        assert_eq!(header(&response, header::RETRY_AFTER), Some("1"), "at least 1");
        assert_eq!(header(&response, header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
    }

    #[test]
    fn errors_are_problem_details_under_v1_and_a_line_elsewhere() {
        assert_eq!(ErrorFormat::of("/v1/nothing"), ErrorFormat::Problem);
        assert_eq!(ErrorFormat::of("/"), ErrorFormat::Line);
        assert_eq!(ErrorFormat::of("/v10"), ErrorFormat::Line);
        let problem = Problem::bad_request("two\nlines");
        assert_eq!(problem.line(), "two lines");
        assert_eq!(
            problem.to_json(),
            json!({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "two\nlines"})
        );
    }
}

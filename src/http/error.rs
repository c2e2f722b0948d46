//! What can go wrong, with its status and its words: problem details (RFC 9457) for the API, one plain line elsewhere.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde_json::{Value, json};

use crate::{
    client::SubmitError,
    cloud::CloudError,
    inference::gallery_store::GalleryError,
    job::{Failure, FailureKind, JobId},
};

/// When the cause says nothing better.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Header with the ids of an answer's jobs, in the order of the files, separated by commas.
pub const ID_HEADER: &str = "Rollcall-Id";

/// How an error is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `application/problem+json`.
    Problem,
    /// One line of text.
    Line,
}

impl Style {
    /// The API answers in JSON, all else in text.
    pub fn of(path: &str) -> Self {
        if path == "/v1" || path.starts_with("/v1/") { Self::Problem } else { Self::Line }
    }
}

/// An answer that is not the one wished for.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// For the person who asked: what is wrong and what to do.
    pub detail: String,
    id: Option<JobId>,
    /// The result will be found under the id.
    found_later: bool,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    /// Parts of the body were not read: the connection cannot be used again.
    close: bool,
    /// More members of the problem's object.
    extra: Option<Box<(&'static str, Value)>>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail, id: None, found_later: false, retry_after: None, allow: None, close: false, extra: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    pub fn busy(detail: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    pub fn id(self, id: JobId) -> Self {
        Self { id: Some(id), ..self }
    }

    pub fn allow(self, methods: &'static str) -> Self {
        Self { allow: Some(methods), ..self }
    }

    pub fn closing(self, close: bool) -> Self {
        Self { close, ..self }
    }

    pub fn with(self, member: &'static str, value: Value) -> Self {
        Self { extra: Some(Box::new((member, value))), ..self }
    }

    /// The problem's object.
    pub fn to_json(&self) -> Value {
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

    /// The detail as one line, whatever is in it.
    pub fn line(&self) -> String {
        one_line(&self.detail)
    }

    pub fn respond(&self, style: Style) -> HttpResponse {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(detail = %self.detail, "request failed");
        }
        let mut response = HttpResponse::build(self.status);
        if let Some(after) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, after.as_secs().max(1).to_string()));
        }
        if let Some(methods) = self.allow {
            response.insert_header((header::ALLOW, methods));
        }
        if let Some(id) = self.id {
            response.insert_header((ID_HEADER, id.to_string()));
        }
        if let (Some(id), true) = (self.id, self.found_later) {
            response.insert_header((header::LOCATION, location(id)));
        }
        if self.close {
            response.force_close();
        }
        match style {
            Style::Problem => response.content_type("application/problem+json").body(self.to_json().to_string()),
            Style::Line => response.content_type("text/plain; charset=utf-8").body(self.line() + "\n"),
        }
    }
}

/// Where a job's result is found.
pub fn location(id: JobId) -> String {
    format!("/v1/recognitions/{id}")
}

/// `text` on one line, so that a line is always one answer.
pub fn one_line(text: &str) -> String {
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
        self.respond(Style::Problem)
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
            SubmitError::Overloaded { retry_after, .. } => Self::busy(detail, retry_after),
            SubmitError::Cloud(cause) => cause.into(),
            SubmitError::Deadline { id, .. } => {
                Self { id: Some(id), found_later: true, ..Self::new(StatusCode::GATEWAY_TIMEOUT, detail) }
            }
            SubmitError::Closed { id } => Self { id: Some(id), found_later: true, ..Self::busy(detail, RETRY_AFTER) },
        }
    }
}

impl From<CloudError> for Problem {
    fn from(error: CloudError) -> Self {
        if let CloudError::Conflict(what) = error {
            return Self::new(StatusCode::CONFLICT, what);
        }
        // What exactly is wrong behind this server is for its log, not for its clients.
        tracing::warn!(%error, "queue or store failed");
        Self::busy("queue or store is unavailable; try again", RETRY_AFTER)
    }
}

impl From<GalleryError> for Problem {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::Refused(reason) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, reason),
            GalleryError::Store(cause) => cause.into(),
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
    fn a_deadline_says_where_the_answer_will_be() {
        let id = JobId(7);
        let problem = Problem::from(SubmitError::Deadline { id, waited: Duration::from_secs(3) });
        let response = problem.respond(Style::Problem);
        assert_eq!(response.status(), 504);
        assert_eq!(header(&response, header::LOCATION), Some(location(id).as_str()));
        assert_eq!(problem.to_json()["id"], json!(id.to_string()));
        assert!(problem.line().contains(&id.to_string()), "the plain line names the id too");
    }

    #[test]
    fn no_capacity_says_when_to_come_back() {
        let busy = SubmitError::Overloaded { what: "uploads", retry_after: Duration::from_millis(200) };
        let response = Problem::from(busy).respond(Style::Line);
        assert_eq!(response.status(), 503);
        assert_eq!(header(&response, header::RETRY_AFTER), Some("1"), "never 0: that is no pause");
        assert_eq!(header(&response, header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
    }

    #[test]
    fn the_api_answers_in_problem_details_and_all_else_in_a_line() {
        assert_eq!(Style::of("/v1/nothing"), Style::Problem);
        assert_eq!(Style::of("/"), Style::Line);
        assert_eq!(Style::of("/v10"), Style::Line);
        let problem = Problem::bad_request("two\nlines");
        assert_eq!(problem.line(), "two lines");
        assert_eq!(
            problem.to_json(),
            json!({"type": "about:blank", "title": "Bad Request", "status": 400, "detail": "two\nlines"})
        );
    }
}

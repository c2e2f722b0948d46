//! Every refusal and fault as HTTP: problem details (RFC 9457) for the API, one plain line for `POST /`.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use serde_json::json;

use crate::{
    actors::web_tier::SubmitError,
    cloud::CloudError,
    inference::gallery_store::GalleryError,
    recognition::{Failure, FailureKind},
    wire::JobId,
};

/// Header with the id of each file's job, in order, separated by commas.
pub const ID_HEADER: &str = "Rollcall-Id";

/// What a client is told when it does not get what it asked for.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// What is wrong and what to do.
    pub detail: String,
    /// The job that goes on, under whose id the answer will be found.
    pub id: Option<JobId>,
    pub retry_after: Option<Duration>,
    /// One line of text instead of problem details.
    pub plain: bool,
}

impl ApiError {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), id: None, retry_after: None, plain: false }
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

    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        if let Some(wait) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, wait.as_secs().max(1).to_string()));
        }
        if let Some(id) = self.id {
            response.insert_header((ID_HEADER, id.to_string()));
            response.insert_header((header::LOCATION, format!("/v1/recognitions/{id}")));
        }
        if self.plain {
            return response.content_type("text/plain; charset=utf-8").body(format!("{}\n", self.detail));
        }
        let mut body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(id) = self.id {
            body["id"] = json!(id.to_string());
        }
        response.content_type("application/problem+json").body(body.to_string())
    }
}

impl From<Failure> for ApiError {
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

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let mut out = Self::new(unavailable, error.to_string());
        match error {
            SubmitError::Overloaded { retry_after, .. } => out.retry_after = Some(retry_after),
            SubmitError::NotAccepted(error) => return error.into(),
            SubmitError::Deadline { id, .. } => (out.status, out.id) = (StatusCode::GATEWAY_TIMEOUT, Some(id)),
            SubmitError::Closed { id } => (out.retry_after, out.id) = (Some(Duration::from_secs(5)), Some(id)),
        }
        out
    }
}

impl From<CloudError> for ApiError {
    fn from(error: CloudError) -> Self {
        match &error {
            CloudError::Conflict(what) => Self::new(StatusCode::CONFLICT, what.clone()),
            CloudError::NotFound(_)
            | CloudError::Invalid(_)
            | CloudError::Denied(_)
            | CloudError::Throttled
            | CloudError::NoCapacity(_)
            | CloudError::Quota(_)
            | CloudError::Unavailable(_) => {
                // What exactly is wrong behind this server is for its log, not for its clients.
                tracing::error!(%error, "queue or store failed");
                let mut out = Self::new(StatusCode::SERVICE_UNAVAILABLE, "queue or store is unavailable; try again");
                out.retry_after = Some(Duration::from_secs(5));
                out
            }
        }
    }
}

impl From<GalleryError> for ApiError {
    fn from(error: GalleryError) -> Self {
        match error {
            GalleryError::Refused(why) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, why),
            GalleryError::Store(error) => error.into(),
        }
    }
}

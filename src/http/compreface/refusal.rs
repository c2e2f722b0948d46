//! Why a request to the API of CompreFace is refused.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};

use crate::{
    http::{
        code,
        error::{ErrorFormat, Problem},
    },
    job::{Failure, FailureKind},
};

/// Why a request is refused, in the form of CompreFace.
#[derive(Debug)]
pub(super) struct Refusal(Problem);

impl Refusal {
    /// Creates a refusal with status 400 and a code.
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, code, message)
    }

    /// Creates a refusal with status 404 and a code.
    pub fn not_found(code: u16, message: impl Into<String>) -> Self {
        Self::with_status(StatusCode::NOT_FOUND, code, message)
    }

    /// Creates a refusal with a status and a code.
    pub fn with_status(status: StatusCode, code: u16, message: impl Into<String>) -> Self {
        Self(Problem::new(status, message).code(code))
    }

    /// Creates the refusal of an image that cannot be read.
    pub fn bad_image(problem: Problem) -> Self {
        match problem.status {
            StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(code::BAD_FILE, problem.detail)
            }
            _ => problem.into(),
        }
    }

    pub fn no_face() -> Self {
        Self::new(code::NO_FACE, "No face is found in the given image")
    }

    pub fn too_many_faces() -> Self {
        Self::new(code::TOO_MANY_FACES, "More than one face in the source image")
    }

    pub fn no_subject(name: &str) -> Self {
        Self::not_found(code::NO_SUBJECT, format!("Subject {name} not found"))
    }

    pub fn no_example(id: impl fmt::Display) -> Self {
        Self::not_found(code::NO_EXAMPLE, format!("Image {id} not found"))
    }

    /// Creates the refusal for a reply of a worker of another version.
    pub fn other_version() -> Self {
        Self::internal("the result is not what was asked for; do all workers run this version?")
    }

    /// Creates the refusal for a fault of this program or its environment.
    pub fn internal(why: impl Into<String>) -> Self {
        Self::from(Failure::new(FailureKind::Internal, why))
    }

    pub fn empty_field(field: &str) -> Self {
        Self::new(code::EMPTY_FIELD, format!("Field {field} cannot be empty"))
    }
}

/// A change that the gallery refuses is invalid, which CompreFace answers with 400.
impl<T: Into<Problem>> From<T> for Refusal {
    fn from(error: T) -> Self {
        let problem = error.into();
        match problem.status {
            StatusCode::UNPROCESSABLE_ENTITY => Self::new(code::INVALID, problem.detail),
            _ => Self(problem),
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
impl Refusal {
    /// Returns what is wrong.
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

#[cfg(test)]
impl Refusal {
    /// Returns the status and the code.
    pub fn code_for_tests(&self) -> (u16, Option<u16>) {
        (self.0.status.as_u16(), self.0.own_code())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        self.0.respond(ErrorFormat::CompreFace)
    }
}

//! The errors of every port of a cloud.

use serde::{Deserialize, Serialize};

/// What a cloud can answer instead of what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CloudError {
    /// The named thing is not there (now: right after its making this proves nothing).
    #[error("{0} not found")]
    NotFound(String),
    /// A precondition did not hold, or a receipt is no longer valid: somebody else was first.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The request itself is wrong; the same request will never succeed.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Credentials or permissions are missing.
    #[error("denied: {0}")]
    Denied(String),
    /// Too many calls; try later.
    #[error("throttled")]
    Throttled,
    /// The cloud has no machine of the wanted kind at the moment.
    #[error("no capacity: {0}")]
    NoCapacity(String),
    /// An account limit is reached.
    #[error("quota reached: {0}")]
    Quota(String),
    /// A fault on the way or on the other side; the call may or may not have been applied.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl CloudError {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Throttled | Self::NoCapacity(_) | Self::Quota(_) | Self::Unavailable(_) => true,
            Self::NotFound(_) | Self::Conflict(_) | Self::Invalid(_) | Self::Denied(_) => false,
        }
    }
}

/// What a call to a cloud returns.
pub type CloudResult<T> = Result<T, CloudError>;

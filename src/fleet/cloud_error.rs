//! The errors of the cloud's ports.

use serde::{Deserialize, Serialize};

/// Why a call to a cloud failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum CloudError {
    /// The resource was not found. Right after its creation this proves nothing.
    #[error("{0} not found")]
    NotFound(String),
    /// A precondition did not hold, or a receipt is no longer valid.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The request itself is wrong; the same request will never succeed.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Credentials or permissions are missing.
    #[error("denied: {0}")]
    Denied(String),
    /// There were too many calls; try again later.
    #[error("throttled")]
    Throttled,
    /// The cloud currently has no capacity for the requested instances.
    #[error("no capacity: {0}")]
    NoCapacity(String),
    /// An account limit is reached.
    #[error("quota reached: {0}")]
    Quota(String),
    /// The transport or the service failed; the call may or may not have been applied.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

impl CloudError {
    /// Returns whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Throttled | Self::NoCapacity(_) | Self::Quota(_) | Self::Unavailable(_) => true,
            Self::NotFound(_) | Self::Conflict(_) | Self::Invalid(_) | Self::Denied(_) => false,
        }
    }
}

/// The result of a call to a cloud.
pub type CloudResult<T> = Result<T, CloudError>;

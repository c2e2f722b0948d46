//! Why a gallery was not read or changed.

use super::refused::Refused;
use crate::{cloud::CloudError, inference::embeddings::index::IndexError};

/// Why the gallery was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The change is invalid; the message says what is allowed.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CloudError),
    /// The index of the gallery on this machine failed.
    #[error("the index of the gallery: {0}")]
    Index(#[from] IndexError),
}

impl From<Refused> for GalleryError {
    fn from(Refused(why): Refused) -> Self {
        Self::Refused(why)
    }
}

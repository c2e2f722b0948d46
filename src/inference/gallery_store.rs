//! The gallery in the object store: one snapshot, replaced by conditional put, so that of two writers neither loses
//! the other's change. Only the newest is kept: who is removed is gone.

use std::sync::Arc;

use super::gallery::Gallery;
use crate::{
    cloud::{CloudError, ObjectStore},
    settings,
};

#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The change itself is refused: says what is allowed.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Store(#[from] CloudError),
}

#[derive(Clone)]
pub struct GalleryStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) bucket: String,
    pub(crate) limits: settings::Gallery,
}

impl GalleryStore {
    pub fn new(store: Arc<dyn ObjectStore>, bucket: String, limits: settings::Gallery) -> Self {
        Self { store, bucket, limits }
    }

    /// The newest snapshot; the empty gallery of version 0 if there is none.
    pub async fn load(&self) -> Result<Arc<Gallery>, GalleryError> {
        todo!()
    }

    /// Adds embeddings (unit length) to a person, who is made if new. The new gallery.
    pub async fn add(&self, _name: &str, _embeddings: Vec<Vec<f32>>) -> Result<Arc<Gallery>, GalleryError> {
        todo!()
    }

    /// Removes a person with all embeddings; `None` if there is none of that name.
    pub async fn remove(&self, _name: &str) -> Result<Option<Arc<Gallery>>, GalleryError> {
        todo!()
    }
}

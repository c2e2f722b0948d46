//! The photos of the people in a gallery, if `gallery.keep_photos` says that they are kept. Workers cannot read them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::photo_id::PhotoId;
use crate::{
    cloud::{CloudError, CloudResult, ObjectStore, Precondition},
    recognition::GalleryName,
};

/// Prefix, in the state bucket, of the keys of kept photos, before the name of their gallery. On AWS, the role of workers
/// denies them whatever begins with `private/`.
const PREFIX: &str = "private/photos/";
/// Photos that are deleted at the same time.
const CONCURRENT: usize = 16;

/// Where a kept photo is.
pub(super) struct KeptPhoto {
    pub gallery: GalleryName,
    pub id: PhotoId,
    /// When it was last put, in milliseconds since the Unix epoch.
    pub modified_ms: u64,
}

/// Lists the kept photos of every gallery.
pub(super) async fn list(store: &dyn ObjectStore, bucket: &str) -> CloudResult<Vec<KeptPhoto>> {
    let listed = store.list(bucket, PREFIX).await?;
    let photos = listed.into_iter().filter_map(|object| {
        let (gallery, id) = parse_key(&object.key)?;
        Some(KeptPhoto { gallery, id, modified_ms: object.modified_ms })
    });
    Ok(photos.collect())
}

/// Returns the gallery and the id of the photo with this key; `None` if it is not the key of a photo.
pub(super) fn parse_key(key: &str) -> Option<(GalleryName, PhotoId)> {
    let (gallery, id) = key.strip_prefix(PREFIX)?.split_once('/')?;
    Some((gallery.parse().ok()?, id.parse().ok()?))
}

/// The kept photos of one gallery. Cheap to clone.
#[derive(Clone)]
pub(super) struct KeptPhotos {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    /// Prefix of the keys.
    prefix: String,
}

impl KeptPhotos {
    pub fn new(store: Arc<dyn ObjectStore>, bucket: String, gallery: &GalleryName) -> Self {
        Self { store, bucket, prefix: format!("{PREFIX}{gallery}/") }
    }

    /// Returns a photo; `None` if it was not kept.
    pub async fn get(&self, id: PhotoId) -> CloudResult<Option<Bytes>> {
        match self.store.get(&self.bucket, &self.key(id)).await {
            Ok(object) => Ok(Some(object.bytes)),
            Err(CloudError::NotFound(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub async fn put(&self, id: PhotoId, photo: Bytes) -> CloudResult<()> {
        self.store.put(&self.bucket, &self.key(id), photo, Precondition::Always).await.map(drop)
    }

    /// Deletes photos, whether or not they were kept.
    pub async fn delete(&self, ids: impl IntoIterator<Item = PhotoId>) -> CloudResult<()> {
        self.delete_keys(ids.into_iter().map(|id| self.key(id)).collect()).await
    }

    /// Deletes every photo of the gallery.
    pub async fn delete_all(&self) -> CloudResult<()> {
        let listed = self.store.list(&self.bucket, &self.prefix).await?;
        self.delete_keys(listed.into_iter().map(|object| object.key).collect()).await
    }

    async fn delete_keys(&self, keys: Vec<String>) -> CloudResult<()> {
        let deleted =
            stream::iter(keys).map(|key| async move { self.store.delete(&self.bucket, &key).await.map(drop) });
        deleted.buffer_unordered(CONCURRENT).try_collect::<Vec<()>>().await.map(drop)
    }

    fn key(&self, id: PhotoId) -> String {
        format!("{}{id}", self.prefix)
    }
}

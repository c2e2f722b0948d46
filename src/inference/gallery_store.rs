//! The gallery in the object store: one snapshot, replaced by conditional puts, so that no writer overwrites the change
//! of another. Only the newest snapshot is stored, so that nothing remains of a person who was removed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::gallery::{Gallery, Person, Refused};
use crate::{
    cloud::{CloudError, ETag, Object, ObjectStore, Precondition},
    recognition::ModelId,
    settings, wire,
};

/// Key of the snapshot in the state bucket.
pub const KEY: &str = "gallery/current";
/// Largest snapshot, in bytes. Below the limit of [`wire::from_bytes`].
const MAX_SNAPSHOT: usize = 60 << 20;
/// Attempts to write while others write at the same time. With the pauses below, they take some seconds.
const MAX_ATTEMPTS: u32 = 20;
const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// Why the gallery was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The change is invalid; the message says what is allowed.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CloudError),
}

impl From<Refused> for GalleryError {
    fn from(Refused(why): Refused) -> Self {
        Self::Refused(why)
    }
}

/// The gallery in the object store. Cheap to clone.
#[derive(Clone)]
pub struct GalleryStore {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) bucket: String,
    pub(crate) limits: settings::Gallery,
}

impl GalleryStore {
    /// Creates a handle to the gallery in `bucket` of `store`. Changes are subject to `limits`.
    pub fn new(store: Arc<dyn ObjectStore>, bucket: String, limits: settings::Gallery) -> Self {
        Self { store, bucket, limits }
    }

    /// Reads the newest snapshot; the empty gallery of version 0 if there is none.
    pub async fn load(&self) -> Result<Arc<Gallery>, GalleryError> {
        Ok(self.read().await?.0)
    }

    /// Adds embeddings of `model` to a person, who is created if new. Returns the new gallery, or the current one if it
    /// has all of them already.
    pub async fn add(
        &self,
        name: &str,
        embeddings: Vec<Vec<f32>>,
        model: ModelId,
    ) -> Result<Arc<Gallery>, GalleryError> {
        self.add_people(vec![Person { name: name.to_owned(), embeddings }], model).await
    }

    /// Adds embeddings of several people, all of `model`, in one version. If one is invalid, none is added.
    pub async fn add_people(&self, people: Vec<Person>, model: ModelId) -> Result<Arc<Gallery>, GalleryError> {
        let (max_people, max_photos) = (self.limits.max_people, self.limits.max_photos);
        let change = move |gallery: &Gallery| Ok(gallery.with(&people, &model, max_people, max_photos)?);
        self.update(change).await.map(Outcome::gallery)
    }

    /// Replaces everybody with `people`, embedded by `model`, whatever the gallery's model was. Returns the new
    /// gallery, or the current one if it is the same.
    pub async fn replace(&self, people: Vec<Person>, model: ModelId) -> Result<Arc<Gallery>, GalleryError> {
        let (max_people, max_photos) = (self.limits.max_people, self.limits.max_photos);
        let change = move |gallery: &Gallery| {
            let empty = Gallery::new(gallery.version, Vec::new(), None);
            let next = empty.with(&people, &model, max_people, max_photos)?;
            Ok(next.filter(|next| (&next.people, &next.model) != (&gallery.people, &gallery.model)))
        };
        self.update(change).await.map(Outcome::gallery)
    }

    /// Removes a person with all their embeddings, and returns the new gallery; `None` if nobody has that name.
    pub async fn remove(&self, name: &str) -> Result<Option<Arc<Gallery>>, GalleryError> {
        let name = name.to_owned();
        match self.update(move |gallery| Ok(gallery.without(&name))).await? {
            Outcome::Written(gallery) => Ok(Some(gallery)),
            Outcome::Unchanged(_) => Ok(None),
        }
    }

    /// Applies `change` to the newest gallery and writes the result, if there is one, on condition that nobody else has
    /// written since. Otherwise tries again.
    async fn update(
        &self,
        change: impl Fn(&Gallery) -> Result<Option<Gallery>, GalleryError> + Send + Sync + 'static,
    ) -> Result<Outcome, GalleryError> {
        let change = Arc::new(change);
        let mut pause = MIN_BACKOFF;
        for _ in 0..MAX_ATTEMPTS {
            let (current, etag) = self.read().await?;
            let (apply, old) = (change.clone(), current.clone());
            let changed = unblocked(move || {
                let Some(next) = apply(&old)? else { return Ok(None) };
                let bytes = encode(&next)?;
                Ok::<_, GalleryError>(Some((Arc::new(next), bytes)))
            });
            let Some((next, bytes)) = changed.await?? else { return Ok(Outcome::Unchanged(current)) };
            let when = etag.map_or(Precondition::Absent, Precondition::Match);
            match self.store.put(&self.bucket, KEY, bytes, when).await {
                Ok(_) => return Ok(Outcome::Written(next)),
                Err(CloudError::Conflict(_) | CloudError::NotFound(_)) => {}
                Err(other) => return Err(other.into()),
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(MAX_BACKOFF);
        }
        Err(CloudError::Conflict("others keep changing the gallery; try again".into()).into())
    }

    async fn read(&self) -> Result<(Arc<Gallery>, Option<ETag>), GalleryError> {
        match self.store.get(&self.bucket, KEY).await {
            Ok(object) => {
                let (gallery, etag) = decode(object).await?;
                Ok((gallery, Some(etag)))
            }
            Err(CloudError::NotFound(_)) => Ok((Arc::default(), None)),
            Err(other) => Err(other.into()),
        }
    }
}

/// Whether an update has changed the gallery.
enum Outcome {
    Written(Arc<Gallery>),
    Unchanged(Arc<Gallery>),
}

impl Outcome {
    fn gallery(self) -> Arc<Gallery> {
        match self {
            Self::Written(gallery) | Self::Unchanged(gallery) => gallery,
        }
    }
}

/// Encodes a snapshot.
fn encode(gallery: &Gallery) -> Result<Bytes, GalleryError> {
    let bytes = wire::to_bytes(gallery).map_err(|e| GalleryError::Refused(e.to_string()))?;
    if bytes.len() > MAX_SNAPSHOT {
        let (is, max) = (bytes.len() >> 20, MAX_SNAPSHOT >> 20);
        return Err(GalleryError::Refused(format!("the gallery would have {is} MiB; at most {max} MiB are allowed")));
    }
    Ok(bytes)
}

/// Decodes a snapshot and builds its index.
pub(super) async fn decode(object: Object) -> Result<(Arc<Gallery>, ETag), GalleryError> {
    let Object { bytes, etag } = object;
    let decoded = unblocked(move || {
        let gallery: Gallery = wire::from_bytes(&bytes)?;
        gallery.warm();
        Ok::<_, wire::WireError>(gallery)
    });
    let gallery = decoded.await?.map_err(|e| CloudError::Invalid(format!("{KEY}: {e}")))?;
    Ok((Arc::new(gallery), etag))
}

/// Runs work on a thread for blocking work: a gallery can have tens of megabytes.
async fn unblocked<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CloudError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| CloudError::Unavailable(e.to_string()))
}

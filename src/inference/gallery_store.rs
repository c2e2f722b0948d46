//! The gallery in the object store: one snapshot, replaced by conditional put, so that of two writers neither loses
//! the other's change. Only the newest is kept: who is removed is gone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::gallery::{Gallery, Person, Refused};
use crate::{
    cloud::{CloudError, ETag, Object, ObjectStore, Precondition},
    settings, wire,
};

/// Key of the snapshot in the state bucket.
pub const KEY: &str = "gallery/current";
/// Largest snapshot, bytes. Below the limit of what [`wire::from_bytes`] decodes.
const MAX_SNAPSHOT: usize = 60 << 20;
/// How often a change is tried when others are quicker. With the pauses below: some seconds in all.
const ATTEMPTS: u32 = 20;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why the gallery was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    /// The change itself is refused: says what is allowed.
    #[error("{0}")]
    Refused(String),
    /// The store's error.
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
    /// Keeps the gallery in `bucket` of `store`, within `limits`.
    pub fn new(store: Arc<dyn ObjectStore>, bucket: String, limits: settings::Gallery) -> Self {
        Self { store, bucket, limits }
    }

    /// The newest snapshot; the empty gallery of version 0 if there is none.
    pub async fn load(&self) -> Result<Arc<Gallery>, GalleryError> {
        Ok(self.read().await?.0)
    }

    /// Adds embeddings to a person, who is made if new. The new gallery, or the present one if it holds all of them
    /// already.
    pub async fn add(&self, name: &str, embeddings: Vec<Vec<f32>>) -> Result<Arc<Gallery>, GalleryError> {
        self.add_people(vec![Person { name: name.to_owned(), embeddings }]).await
    }

    /// Adds photos of several people in one version: all of them or, if something is refused, none.
    pub async fn add_people(&self, people: Vec<Person>) -> Result<Arc<Gallery>, GalleryError> {
        let (max_people, max_photos) = (self.limits.max_people, self.limits.max_photos);
        let change = move |gallery: &Gallery| Ok(gallery.with(&people, max_people, max_photos)?);
        self.update(change).await.map(Outcome::gallery)
    }

    /// Puts `people` in the place of everybody.
    pub async fn replace(&self, people: Vec<Person>) -> Result<Arc<Gallery>, GalleryError> {
        let (max_people, max_photos) = (self.limits.max_people, self.limits.max_photos);
        let change = move |gallery: &Gallery| {
            let next = Gallery::new(gallery.version, Vec::new()).with(&people, max_people, max_photos)?;
            Ok(next.filter(|next| next.people != gallery.people))
        };
        self.update(change).await.map(Outcome::gallery)
    }

    /// Removes a person with all embeddings; `None` if there is none of that name.
    pub async fn remove(&self, name: &str) -> Result<Option<Arc<Gallery>>, GalleryError> {
        let name = name.to_owned();
        match self.update(move |gallery| Ok(gallery.without(&name))).await? {
            Outcome::Written(gallery) => Ok(Some(gallery)),
            Outcome::Unchanged(_) => Ok(None),
        }
    }

    /// Applies `change` to the newest gallery and writes the result, if there is one, on condition that nobody has
    /// written in between; else reads and applies again.
    async fn update(
        &self,
        change: impl Fn(&Gallery) -> Result<Option<Gallery>, GalleryError> + Send + Sync + 'static,
    ) -> Result<Outcome, GalleryError> {
        let change = Arc::new(change);
        let mut pause = FIRST_PAUSE;
        for _ in 0..ATTEMPTS {
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
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(CloudError::Conflict("the gallery is being changed by others all the time; try again".into()).into())
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

fn encode(gallery: &Gallery) -> Result<Bytes, GalleryError> {
    let bytes = wire::to_bytes(gallery).map_err(|e| GalleryError::Refused(e.to_string()))?;
    if bytes.len() > MAX_SNAPSHOT {
        let (is, max) = (bytes.len() >> 20, MAX_SNAPSHOT >> 20);
        return Err(GalleryError::Refused(format!("the gallery would take {is} MiB; at most {max} MiB are kept")));
    }
    Ok(bytes)
}

/// The gallery of an object, ready to be searched.
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

/// A gallery can be tens of megabytes: work on it is kept off the threads that serve.
async fn unblocked<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, CloudError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| CloudError::Unavailable(e.to_string()))
}

//! Names that were reserved in a gallery before their first photo was enrolled.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{error::GalleryError, person::check_name, refused::refused, store::GalleryStore};
use crate::cloud::{CloudError, ETag, Object, Precondition};

/// End of the key of the reserved names, after the gallery's prefix.
const KEY: &str = "/names";
/// Attempts to write while others write at the same time.
const MAX_ATTEMPTS: usize = 20;

impl GalleryStore {
    /// Returns the names of people without photos.
    pub async fn reserved_names(&self) -> Result<BTreeSet<String>, GalleryError> {
        Ok(self.read_names().await?.0)
    }

    /// Reserves a name. Returns `false` if somebody has it already.
    ///
    /// # Errors
    /// `Refused` for a name that nobody can have, and if there are too many people.
    pub async fn reserve_name(&self, name: &str) -> Result<bool, GalleryError> {
        check_name(name)?;
        let manifest = self.manifest().await?;
        if self.person(name).await?.is_some() {
            return Ok(false);
        }
        let max = self.max_people();
        self.update_names(|names| {
            if names.len() + manifest.people() >= max && !names.contains(name) {
                return Err(refused(format!("there are {max} people already (gallery.max_people)")).into());
            }
            Ok(names.insert(name.to_owned()))
        })
        .await
    }

    /// Replaces a reserved name. Returns `false` if it was not reserved.
    ///
    /// # Errors
    /// `Refused` for a name that nobody can have.
    pub async fn replace_reserved_name(&self, name: &str, with: &str) -> Result<bool, GalleryError> {
        check_name(with)?;
        let has_photos = self.person(with).await?.is_some();
        self.update_names(|names| {
            let removed = names.remove(name);
            if removed && !has_photos {
                names.insert(with.to_owned());
            }
            Ok(removed)
        })
        .await
    }

    /// Releases a reserved name. Returns `false` if it was not reserved.
    pub async fn release_name(&self, name: &str) -> Result<bool, GalleryError> {
        self.update_names(|names| Ok(names.remove(name))).await
    }

    /// Releases every reserved name, and returns how many there were.
    pub(super) async fn release_all_names(&self) -> Result<usize, GalleryError> {
        let names = self.reserved_names().await?;
        if !names.is_empty() {
            self.store.delete(&self.bucket, &self.names_key()).await?;
        }
        Ok(names.len())
    }

    /// Applies a change to the newest names, and returns what it returns: whether anything has changed.
    async fn update_names(
        &self,
        change: impl Fn(&mut BTreeSet<String>) -> Result<bool, GalleryError>,
    ) -> Result<bool, GalleryError> {
        for _ in 0..MAX_ATTEMPTS {
            let (mut names, etag) = self.read_names().await?;
            if !change(&mut names)? {
                return Ok(false);
            }
            let bytes = serde_json::to_vec(&names).map_err(|error| CloudError::Invalid(error.to_string()))?;
            let when = etag.map_or(Precondition::Absent, Precondition::Match);
            match self.store.put(&self.bucket, &self.names_key(), bytes.into(), when).await {
                Ok(_) => return Ok(true),
                Err(CloudError::Conflict(_) | CloudError::NotFound(_)) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(CloudError::Conflict("others keep changing the names of the gallery; try again".into()).into())
    }

    async fn read_names(&self) -> Result<(BTreeSet<String>, Option<ETag>), GalleryError> {
        let key = self.names_key();
        let decode = |bytes: &Bytes| {
            serde_json::from_slice(bytes).map_err(|error| CloudError::Invalid(format!("{key}: {error}")))
        };
        match self.store.get(&self.bucket, &key).await {
            Ok(Object { bytes, etag }) => Ok((decode(&bytes)?, Some(etag))),
            Err(CloudError::NotFound(_)) => Ok((BTreeSet::new(), None)),
            Err(other) => Err(other.into()),
        }
    }

    fn names_key(&self) -> String {
        format!("{}{KEY}", self.prefix)
    }
}

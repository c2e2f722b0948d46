//! Reads every part of one version of a gallery.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, stream};

use super::{
    error::GalleryError,
    manifest::{Manifest, PartId},
    part::Part,
    store::{CONCURRENT, GalleryStore, unblocked},
};
use crate::cloud::CloudError;

/// Attempts to read a version all of whose parts are there. Each reads only the parts that the one before has not read.
pub(super) const MAX_READS: usize = 10;

/// What was found in the parts of a gallery. Parts never change, so a later version is read faster.
pub(super) struct Scan<T> {
    found: HashMap<PartId, Vec<T>>,
}

impl<T> Default for Scan<T> {
    fn default() -> Self {
        Self { found: HashMap::new() }
    }
}

impl<T: Send + 'static> Scan<T> {
    /// Reads the parts of the newest version that were not read yet. Unlike a
    /// [`PartReader`](super::store::PartReader), it misses nobody who is renamed meanwhile. What `of_part` finds must
    /// depend on the part only, and be the same in each call.
    ///
    /// # Errors
    /// A part cannot be read, or others keep changing the gallery.
    pub async fn read(
        &mut self,
        gallery: &GalleryStore,
        of_part: impl Fn(Part) -> Vec<T> + Clone + Send + 'static,
    ) -> Result<Manifest, GalleryError> {
        for _ in 0..MAX_READS {
            let manifest = gallery.manifest().await?;
            // All snapshots of earlier releases have the same id.
            self.found.remove(&PartId::SNAPSHOT);
            let unread: Vec<PartId> =
                manifest.parts.iter().map(|part| part.id).filter(|id| !self.found.contains_key(id)).collect();
            let (manifest_ref, of_part) = (&manifest, &of_part);
            let mut read = stream::iter(unread)
                .map(|id| async move {
                    let (part, of_part) = (gallery.part(manifest_ref, id).await?, of_part.clone());
                    Ok::<_, GalleryError>((id, unblocked(move || of_part(part)).await?))
                })
                .buffer_unordered(CONCURRENT);
            let mut whole = true;
            while let Some(part) = read.next().await {
                match gallery.unless_newer(&manifest, part).await? {
                    Some((id, found)) => drop(self.found.insert(id, found)),
                    None => whole = false,
                }
            }
            drop(read);
            if whole {
                let current: HashSet<PartId> = manifest.parts.iter().map(|part| part.id).collect();
                self.found.retain(|id, _| current.contains(id));
                return Ok(manifest);
            }
        }
        Err(CloudError::Unavailable("others keep changing the gallery".into()).into())
    }

    /// Returns what was found in the version that was read last.
    pub fn found(&self) -> impl Iterator<Item = &T> {
        self.found.values().flatten()
    }
}

//! What killed processes have left of one gallery.

use std::{collections::HashSet, time::Duration};

use super::{error::GalleryError, manifest::PartId, part::Part, photo_id::PhotoId, scan::Scan, store::GalleryStore};
use crate::clock::now_ms;

/// Age from which a part of the next version is deleted, if that does not come: its writer was killed. A writer that is
/// alive takes less time to replace the manifest. The same is the age from which a photo without an embedding is deleted.
const ORPHAN_AGE: Duration = Duration::from_secs(600);

/// Returns whether what was written at this time, in milliseconds since the Unix epoch, may be an orphan.
pub(super) fn is_old(written_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(written_ms) > ORPHAN_AGE.as_millis() as u64
}

impl GalleryStore {
    /// Deletes the parts of writers that were killed, and those whose deletion has failed: at once if the current manifest
    /// shows that no writer still needs them, otherwise when they are old.
    pub async fn delete_orphans(&self) -> Result<(), GalleryError> {
        let prefix = self.part_key_prefix();
        let listed = self.store.list(&self.bucket, &prefix).await?;
        // Read after the listing, so that it contains every part that was listed and is in use.
        let manifest = self.manifest().await?;
        let used: HashSet<PartId> = manifest.parts.iter().map(|part| part.id).collect();
        let now = now_ms();
        let orphans = listed.into_iter().filter_map(|object| {
            let id = PartId(object.key.strip_prefix(&prefix)?.parse::<ulid::Ulid>().ok()?.0);
            let orphan = !used.contains(&id) && (is_old(id.created_ms(), now) || id.is_too_late(&manifest));
            orphan.then_some(id)
        });
        self.delete_parts(orphans.collect()).await
    }

    /// Deletes those of the photos, which were listed a moment ago and are old, that have no embedding. `known` is what
    /// earlier calls have read of the gallery.
    ///
    /// # Errors
    /// The gallery cannot be read whole, then no photo is deleted; or one cannot be deleted.
    pub(super) async fn delete_orphaned_photos(
        &self,
        listed: Vec<PhotoId>,
        known: &mut Scan<PhotoId>,
    ) -> Result<(), GalleryError> {
        // Read after the listing: a photo is kept after its embedding was added, so every photo that was listed has one
        // in this version, unless it was removed.
        known.read(self, |part| photo_ids(&part)).await?;
        let there: HashSet<PhotoId> = known.found().copied().collect();
        Ok(self.kept.delete(listed.into_iter().filter(|id| !there.contains(id))).await?)
    }
}

/// Returns the ids of the photos in a part.
pub(super) fn photo_ids(part: &Part) -> Vec<PhotoId> {
    part.people.iter().flat_map(|person| &person.embeddings).map(|embedding| PhotoId::of(embedding)).collect()
}

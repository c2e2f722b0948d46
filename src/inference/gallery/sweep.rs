//! The search for what killed processes have left of galleries.

use std::{collections::HashMap, mem};

use super::{GalleryStores, orphans::is_old, photo_id::PhotoId, scan::Scan, store::GalleryError};
use crate::{clock::now_ms, recognition::GalleryName};

/// Looks for what killed processes have left of the galleries, and deletes it: parts that are in no manifest, and photos
/// whose embedding is gone. Also for what a restored backup, or a release that knows no kept photos, has left.
pub struct OrphanSweep {
    stores: GalleryStores,
    /// What the last search has read of the galleries with kept photos.
    known: HashMap<GalleryName, Scan<PhotoId>>,
}

impl OrphanSweep {
    /// Prepares to search these galleries.
    pub fn new(stores: GalleryStores) -> Self {
        Self { stores, known: HashMap::new() }
    }

    /// Searches every gallery, also if one of them fails.
    ///
    /// # Errors
    /// The first failure.
    pub async fn run(&mut self) -> Result<(), GalleryError> {
        let mut all: Result<(), GalleryError> = Ok(());
        for name in self.stores.names().await? {
            all = all.and(self.stores.gallery(&name).delete_orphans().await);
        }
        // The galleries of photos are those of their keys: one without a manifest is not among the names.
        let now = now_ms();
        let mut listed: HashMap<GalleryName, Vec<PhotoId>> = HashMap::new();
        for photo in self.stores.kept_photos().await?.into_iter().filter(|photo| is_old(photo.modified_ms, now)) {
            listed.entry(photo.gallery).or_default().push(photo.id);
        }
        let mut known = mem::take(&mut self.known);
        for (name, photos) in listed {
            let mut scan = known.remove(&name).unwrap_or_default();
            all = all.and(self.stores.gallery(&name).delete_orphaned_photos(photos, &mut scan).await);
            self.known.insert(name, scan);
        }
        all
    }
}

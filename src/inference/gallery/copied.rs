//! Which kept photos belong to galleries that were copied.

use std::collections::{HashMap, HashSet};

use super::{
    kept_photos::parse_key,
    keys::{KEY, MANIFEST, NAMED},
    manifest::{Manifest, PartId},
    orphans::photo_ids,
    part::Part,
    photo_id::PhotoId,
};
use crate::{recognition::GalleryName, wire};

/// The ids of the photos in the galleries that were copied. `None` stands for what cannot be read.
#[derive(Default)]
pub struct CopiedGalleries {
    /// Those of the parts, by their keys, of the gallery that is being copied.
    parts: HashMap<String, Option<Vec<PhotoId>>>,
    galleries: HashMap<GalleryName, Option<HashSet<PhotoId>>>,
}

impl CopiedGalleries {
    /// Returns whether a key in the state bucket is that of a part.
    pub fn is_part(key: &str) -> bool {
        let folder = key.rsplit_once('/').and_then(|(folder, _)| folder.strip_suffix("/parts"));
        folder.is_some_and(|folder| gallery_of(&format!("{folder}{MANIFEST}")).is_some())
    }

    /// Notes that the part with this key was copied.
    pub fn add_part(&mut self, key: &str, bytes: &[u8]) {
        let part = wire::from_bytes::<Part>(bytes).ok();
        self.parts.insert(key.to_owned(), part.map(|part| photo_ids(&part)));
    }

    /// Notes that the manifest with this key was copied, after all its parts.
    pub fn add_manifest(&mut self, key: &str, bytes: &[u8]) {
        let mut parts = std::mem::take(&mut self.parts);
        let Some(gallery) = gallery_of(key) else { return };
        let folder = key.strip_suffix(MANIFEST).unwrap_or_default();
        let ids = wire::from_bytes::<Manifest>(bytes).ok().and_then(|manifest| {
            let of_parts = manifest.parts.iter().map(|part| match part.id {
                PartId::SNAPSHOT => Some(photo_ids(&manifest.snapshot)),
                id => parts.remove(&format!("{folder}/parts/{id}")).flatten(),
            });
            Some(of_parts.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
        });
        self.galleries.insert(gallery, ids);
    }

    /// Returns whether what has this key in the state bucket is worth copying: not if it is a kept photo that is in no
    /// gallery that was copied. Of a gallery that cannot be read, every photo is.
    pub fn includes(&self, key: &str) -> bool {
        let Some((gallery, id)) = parse_key(key) else { return true };
        self.galleries.get(&gallery).is_some_and(|ids| ids.as_ref().is_none_or(|ids| ids.contains(&id)))
    }
}

/// Returns the gallery whose manifest has this key; `None` if it is not the key of a manifest.
fn gallery_of(key: &str) -> Option<GalleryName> {
    if key == KEY {
        return Some(GalleryName::default());
    }
    key.strip_prefix(NAMED)?.strip_suffix(MANIFEST)?.parse().ok()
}

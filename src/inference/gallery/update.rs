//! What an attempt to change a gallery has led to.

use super::{error::GalleryError, manifest::Manifest, part::Part, photo_id::PhotoId};

/// The newest version after an update.
pub(super) struct Update {
    pub manifest: Manifest,
    /// Number of people in the version before.
    pub people_before: usize,
    /// Number of photos in the version before.
    pub photos_before: usize,
    /// The photos that the update has removed, unless it has removed everybody.
    pub removed: Vec<PhotoId>,
    /// The parts that the update has written.
    pub parts: Vec<Part>,
    /// Whether it has written a version.
    pub written: bool,
    /// Whether the parts that it has replaced are deleted. Otherwise they are orphans.
    pub deleted: Result<(), GalleryError>,
}

impl Update {
    /// Returns that nothing is to be changed in this version.
    pub fn none(manifest: Manifest) -> Self {
        let (people_before, photos_before) = (manifest.people(), manifest.photos());
        let (removed, parts) = (Vec::new(), Vec::new());
        Self { manifest, people_before, photos_before, removed, parts, written: false, deleted: Ok(()) }
    }
}

//! What an attempt to change a gallery has led to.

use super::{error::GalleryError, manifest::Manifest, part::Part};

/// The newest version after an update.
pub(super) struct Update {
    pub manifest: Manifest,
    /// Number of photos in the version before.
    pub photos_before: usize,
    /// The parts that the update has written.
    pub parts: Vec<Part>,
    /// Whether it has written a version.
    pub written: bool,
    /// Whether the parts that it has replaced are deleted. Otherwise they are orphans.
    pub deleted: Result<(), GalleryError>,
}

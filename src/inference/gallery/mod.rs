//! Galleries of known people: their names and embeddings, in the object store, in memory, and in an index on the machine.
//!
//! A gallery is a manifest and parts. Each part is an object with the people between two names; the manifest lists the
//! parts and is replaced by conditional puts, which decides between concurrent writers. See
//! `docs/adr/0007-galleries-in-parts.md`.

pub mod cache;
mod change;
mod copied;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod galleries;
mod index_files;
mod kept_photos;
pub mod keys;
mod manifest;
mod names;
mod orphans;
mod part;
mod person;
mod photo_id;
mod photos;
mod refused;
mod rejected;
mod scan;
mod scores;
mod search;
mod spellings;
pub mod store;
mod sweep;
mod update;

pub use change::{SAME_PHOTO, in_memory};
pub use copied::CopiedGalleries;
pub use galleries::{Galleries, GalleryStores};
pub use index_files::IndexPlace;
pub use manifest::Manifest;
pub use person::{MAX_REJECTED, Person, check_name};
pub use photo_id::PhotoId;
pub use photos::{Added, Photo, Photos};
pub use refused::Refused;
pub use rejected::Rejection;
pub use search::Gallery;
pub use spellings::Spellings;
pub use sweep::OrphanSweep;

#[cfg(test)]
mod tests;

//! Backups of the embedded cloud: one archive with everything that the data folder holds and that cannot be made anew.
//!
//! A backup is made while the server runs. What the archive contains was not stored at one moment, so the order matters:
//! see [`create`], and `docs/adr/0029-backups.md`.

mod archive;
mod create;
mod restore;

pub(crate) use archive::verify;
pub use create::{BackupError, Backups};
pub use restore::{Restored, restore};

#[cfg(test)]
mod tests;

//! Renewal: deletes for good what has been deleted.
//!
//! The database writes to free pages and never overwrites, so a deleted message, with the photo in it, stays in the file
//! until its pages happen to be used again. A renewal copies what is still there to a new file, which then takes the place
//! of the old one. See `docs/adr/0028-erasure-looks-again.md`.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use redb::Database;

use super::tables;

/// How long after a deletion the file is renewed. Deletions until then share the renewal.
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// A renewal is delayed if the one before took more than this part of the time since: the writer does nothing else
/// meanwhile.
const MAX_SHARE: u32 = 50;
/// Pause after a renewal that failed.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// When the file must be renewed. Pure: time is passed in.
pub(super) struct Schedule {
    /// When the first message was deleted since the last renewal; also when the file was opened, because nobody knows
    /// what was deleted before.
    deleted_at: Option<Instant>,
    earliest: Instant,
}

impl Schedule {
    /// Creates the schedule of a file that has just been opened.
    pub(super) fn new(now: Instant) -> Self {
        Self { deleted_at: Some(now), earliest: now }
    }

    /// Returns when the file must be renewed, if anything has been deleted.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deleted_at.map(|at| (at + RENEW_AFTER).max(self.earliest))
    }

    /// Notes that messages have been deleted that may be in the file.
    pub(super) fn deleted(&mut self, now: Instant) {
        self.deleted_at.get_or_insert(now);
    }

    /// Notes that the file was renewed.
    pub(super) fn renewed(&mut self, began: Instant, now: Instant) {
        *self = Self { deleted_at: None, earliest: now + (now - began) * MAX_SHARE };
    }

    /// Notes that a renewal has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.earliest = now + RETRY_AFTER;
    }
}

/// Copies the database to a new file, which takes the place of the one at `path`, and returns it. The old file remains
/// after an error.
pub(super) fn copy(old: &Database, path: &Path) -> Result<Database, redb::Error> {
    remove_unfinished(path)?;
    let unfinished = unfinished(path);
    let copied = (|| {
        let new = tables::open(&tables::builder(false), &unfinished)?;
        tables::copy(old, &new)?;
        fs::rename(&unfinished, path)?;
        Ok(new)
    })();
    if copied.is_err() {
        let _ = remove_unfinished(path); // it takes room; the next attempt removes it too
    }
    copied
}

/// Makes durable that a new file has taken the place of the one at `path`.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

/// Removes what a renewal has left that did not end.
pub(super) fn remove_unfinished(path: &Path) -> io::Result<()> {
    match fs::remove_file(unfinished(path)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the path of the new file until it is complete.
fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

#[cfg(test)]
mod tests;

//! Renewal: deletes for good what has been deleted.
//!
//! The database writes to free pages and never overwrites, so a deleted message, with the photo in it, stays in the file
//! until its pages happen to be used again. A renewal copies what is still there to a new file, which then takes the place
//! of the old one. A thread copies what was stored at one moment, while commits go on; what they have changed since is
//! copied at the end, by the thread that commits. See `docs/adr/0028-erasure-looks-again.md`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use redb::{Database, ReadTransaction};

use super::{
    damage::{FileError, guarded},
    pending::{Changes, Key},
    tables,
};

/// How long after a deletion the file is renewed. Deletions until then share the renewal.
const RENEW_AFTER: Duration = Duration::from_secs(20);
/// A renewal is delayed if the one before took more than this part of the time since.
const MAX_SHARE: u32 = 10;
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

    /// Notes that a renewal begins, which will leave out what has been deleted so far.
    pub(super) fn began(&mut self) {
        self.deleted_at = None;
    }

    /// Notes that the file was renewed.
    pub(super) fn renewed(&mut self, began: Instant, now: Instant) {
        self.earliest = now + (now - began) * MAX_SHARE;
    }

    /// Notes that a renewal has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.deleted(now);
        self.earliest = now + RETRY_AFTER;
    }
}

/// A copy that a thread is making. Dropping it ends the thread and removes the copy.
pub(super) struct Copying {
    thread: Option<JoinHandle<Result<Database, FileError>>>,
    cancelled: Arc<AtomicBool>,
    path: PathBuf,
    /// What commits have changed since the copy began.
    changed: BTreeSet<Key>,
    pub(super) began: Instant,
}

impl Copying {
    /// Begins to copy what `from` sees to a new file beside the one at `path`. Calls `done` on the thread when it has
    /// ended, whether or not the copy is complete.
    ///
    /// # Errors
    /// A file that an earlier copy has left cannot be removed, or there is no thread.
    pub(super) fn begin(
        from: ReadTransaction,
        path: &Path,
        now: Instant,
        done: impl FnOnce() + Send + 'static,
    ) -> Result<Self, redb::Error> {
        remove_unfinished(path)?;
        let cancelled = Arc::<AtomicBool>::default();
        let thread = Builder::new().name("journal copy".into()).spawn({
            let (cancelled, unfinished) = (cancelled.clone(), unfinished(path));
            move || {
                let copied = guarded(|| {
                    let new = tables::open(&tables::builder(false), &unfinished)?;
                    tables::copy(&from, &new, &cancelled)?;
                    Ok(new)
                });
                drop(from); // before anyone can learn that this has ended
                done();
                copied
            }
        })?;
        Ok(Self { thread: Some(thread), cancelled, path: path.to_owned(), changed: BTreeSet::new(), began: now })
    }

    /// Notes what a commit has changed.
    pub(super) fn note(&mut self, changes: &Changes) {
        self.changed.extend(changes.keys());
    }

    /// Waits for the copy, adds what has changed since, and gives it the name of the file. Returns its database.
    pub(super) fn finish(mut self, old: &Database) -> Result<Database, redb::Error> {
        let new = self.join().map_err(|error| redb::Error::Io(io::Error::other(error.to_string())))?;
        tables::copy_again(old, &new, &self.changed)?;
        fs::rename(unfinished(&self.path), &self.path)?;
        Ok(new)
    }

    fn join(&mut self) -> Result<Database, FileError> {
        let ended = self.thread.take().map(JoinHandle::join);
        // What panics is the database.
        ended.and_then(Result::ok).unwrap_or_else(|| Err(FileError::Failed("its copy was not made".into())))
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        let _ = self.join();
        // It takes room; the next attempt removes it too. After success, there is none.
        let _ = remove_unfinished(&self.path);
    }
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

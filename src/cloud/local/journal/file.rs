//! The queues' file while it is open. After an error it is closed and opened again: the database refuses all further
//! use of a handle that has seen one. A file that turns out to be damaged is never opened again.

use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, atomic::AtomicBool},
    time::Instant,
};

use bytes::Bytes;
use redb::{Builder, Database, ReadableDatabase as _};
use tokio::sync::watch;

use super::{
    damage::{FileError, guarded},
    pending::{Changes, StoredMessage},
    renewal::{self, Copying},
    tables,
};
use crate::{
    cloud::local::queue_index::Seq,
    cloud::{CloudError, CloudResult},
};

/// Opens the file.
pub(super) type Open = Box<dyn Fn(&Builder) -> Result<Database, redb::Error> + Send + Sync>;

/// The queues' file.
pub(super) struct JournalFile {
    open: Open,
    /// Where it is, if it is a file that can be renewed.
    path: Option<PathBuf>,
    /// `None` between an error and the next successful attempt to open it.
    db: RwLock<Option<Database>>,
    /// What is wrong with the file, once it is known to be damaged.
    damage: watch::Sender<Option<String>>,
}

impl JournalFile {
    /// Opens the file with `open`, which is also used after an error, and verifies all of it. It can be renewed if it is
    /// the file at `path`.
    ///
    /// # Errors
    /// The file is damaged, or cannot be opened.
    pub(super) fn open(open: Open, path: Option<PathBuf>) -> Result<Self, FileError> {
        let db = guarded(|| {
            let db = open(&tables::builder(true))?;
            if let Some(path) = &path {
                renewal::remove_unfinished(path)?; // no other process has the file open
            }
            Ok(db)
        })?;
        Ok(Self { open, path, db: RwLock::new(Some(db)), damage: watch::Sender::new(None) })
    }

    /// Returns all messages of a queue, in the order of their positions.
    pub(super) fn messages(&self, queue: &str) -> CloudResult<Vec<(Seq, StoredMessage)>> {
        self.with(|db| tables::messages(db, queue))
    }

    /// Returns the highest position in any queue, or zero.
    pub(super) fn last_seq(&self) -> CloudResult<Seq> {
        self.with(tables::last_seq)
    }

    /// Returns the body of a message.
    pub(super) fn body(&self, queue: &str, seq: Seq) -> CloudResult<Option<Bytes>> {
        self.with(|db| tables::body(db, queue, seq))
    }

    /// Writes changes in one transaction, durable on return. Opens the file first if it is closed.
    ///
    /// # Errors
    /// The file cannot be opened or written; nothing was written. It is closed.
    pub(super) fn commit(&self, changes: &Changes) -> CloudResult<()> {
        let is_closed = self.db.read().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_closed && self.damage.borrow().is_none() {
            let opened = guarded(|| (self.open)(&tables::builder(false))).map_err(|error| self.unavailable(error))?;
            *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        }
        // A file that has just been opened must prove that it can be written.
        let committed = self.with(|db| tables::commit(db, changes, is_closed));
        if committed.is_err() {
            self.close();
        }
        committed
    }

    /// Begins to copy what is stored now to a new file; `None` if there is no file to renew. Commits go on meanwhile, and
    /// must be noted. Calls `done` when the copy is made or has failed. To be called by the thread that commits.
    ///
    /// # Errors
    /// The file cannot be read, or a new one cannot be written.
    pub(super) fn begin_copy(
        &self,
        now: Instant,
        done: impl FnOnce() + Send + 'static,
    ) -> CloudResult<Option<Copying>> {
        let Some(path) = &self.path else { return Ok(None) };
        self.with(|db| Copying::begin(db.begin_read()?, path, now, done)).map(Some)
    }

    /// Waits for a copy and replaces the file with it, so that nothing can be read any more that was deleted before the copy
    /// began. To be called by the thread that commits.
    ///
    /// # Errors
    /// The new file could not be written, and the old one remains; or it is uncertain whether the new one survives a
    /// crash, and the file is closed until the next commit.
    pub(super) fn replace(&self, copying: Copying) -> CloudResult<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let new = self.with(|db| copying.finish(db))?;
        let old = self.db.write().unwrap_or_else(PoisonError::into_inner).replace(new);
        let _ = guarded(|| {
            drop(old);
            Ok(())
        }); // it is replaced
        renewal::sync_folder(path).map_err(|error| {
            self.close();
            unavailable(error)
        })
    }

    /// Copies what is stored now to a new database at `path`, an empty file. Commits go on meanwhile.
    ///
    /// # Errors
    /// The copy cannot be written, or this file cannot be read.
    pub(super) fn copy_to(&self, path: &Path) -> CloudResult<()> {
        let read = self.with(|db| Ok(db.begin_read()?))?;
        let copy = || tables::copy(&read, &tables::builder(false).create(path)?, &AtomicBool::new(false));
        guarded(copy).map_err(|error| self.unavailable(error))
    }

    /// Closes the file until the next commit.
    fn close(&self) {
        let db = self.db.write().unwrap_or_else(PoisonError::into_inner).take();
        let _ = guarded(|| {
            drop(db);
            Ok(())
        }); // the error that led here says more
    }

    /// Follows what is wrong with the file.
    pub(super) fn damage(&self) -> watch::Receiver<Option<String>> {
        self.damage.subscribe()
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> CloudResult<T> {
        if let Some(damage) = &*self.damage.borrow() {
            return Err(unavailable(damage));
        }
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or_else(|| unavailable("it could not be written and is closed"))?;
        guarded(|| work(db)).map_err(|error| self.unavailable(error))
    }

    fn unavailable(&self, error: FileError) -> CloudError {
        if let FileError::Damaged(damage) = &error {
            self.damage.send_if_modified(|known| {
                let is_new = known.is_none();
                known.get_or_insert_with(|| damage.clone());
                is_new
            });
        }
        unavailable(error)
    }
}

/// Returns the error for a file that cannot be used.
fn unavailable(error: impl std::fmt::Display) -> CloudError {
    CloudError::Unavailable(format!("queue file: {error}"))
}

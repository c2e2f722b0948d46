//! The queues' file while it is open. After an error it is closed and opened again: the database refuses all further
//! use of a handle that has seen one.

use std::{
    path::PathBuf,
    sync::{PoisonError, RwLock},
};

use bytes::Bytes;
use redb::Database;

use super::{
    pending::{Changes, StoredMessage},
    renewal, tables,
};
use crate::{
    cloud::local::queue_index::Seq,
    cloud::{CloudError, CloudResult},
};

/// Opens the file.
type Open = Box<dyn Fn() -> anyhow::Result<Database> + Send + Sync>;

/// The queues' file.
pub(super) struct JournalFile {
    open: Open,
    /// Where it is, if it is a file that can be renewed.
    path: Option<PathBuf>,
    /// `None` between an error and the next successful attempt to open it.
    db: RwLock<Option<Database>>,
}

impl JournalFile {
    /// Opens the file with `open`, which is also used after an error. It can be renewed if it is the file at `path`.
    pub(super) fn open(open: Open, path: Option<PathBuf>) -> anyhow::Result<Self> {
        let db = RwLock::new(Some(open()?));
        if let Some(path) = &path {
            renewal::remove_unfinished(path)?; // no other process has the file open
        }
        Ok(Self { open, path, db })
    }

    /// Returns all messages of a queue, in the order of their positions.
    pub(super) fn messages(&self, queue: &str) -> CloudResult<Vec<(Seq, StoredMessage)>> {
        self.with(|db| tables::messages(db, queue).map_err(|error| unavailable(format!("{error:#}"))))
    }

    /// Returns the highest position in any queue, or zero.
    pub(super) fn last_seq(&self) -> CloudResult<Seq> {
        self.with(|db| tables::last_seq(db).map_err(|error| unavailable(format!("{error:#}"))))
    }

    /// Returns the body of a message.
    pub(super) fn body(&self, queue: &str, seq: Seq) -> CloudResult<Option<Bytes>> {
        self.with(|db| tables::body(db, queue, seq).map_err(unavailable))
    }

    /// Writes changes in one transaction, durable on return. Opens the file first if it is closed.
    ///
    /// # Errors
    /// The file cannot be opened or written; nothing was written. It is closed.
    pub(super) fn commit(&self, changes: &Changes) -> CloudResult<()> {
        let is_closed = self.db.read().unwrap_or_else(PoisonError::into_inner).is_none();
        if is_closed {
            let opened = (self.open)().map_err(|error| unavailable(format!("{error:#}")))?;
            *self.db.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
        }
        // A file that has just been opened must prove that it can be written.
        let committed = self.with(|db| tables::commit(db, changes, is_closed).map_err(unavailable));
        if committed.is_err() {
            self.close();
        }
        committed
    }

    /// Replaces the file with a new one that contains only what is stored now, so that nothing can be read any more that
    /// was deleted. To be called by the thread that commits.
    ///
    /// # Errors
    /// The new file could not be written, and the old one remains; or it is uncertain whether the new one survives a
    /// crash, and the file is closed until the next commit.
    pub(super) fn renew(&self) -> CloudResult<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let new = self.with(|db| renewal::copy(db, path).map_err(|error| unavailable(format!("{error:#}"))))?;
        let old = self.db.write().unwrap_or_else(PoisonError::into_inner).replace(new);
        drop(old);
        renewal::sync_folder(path).map_err(|error| {
            self.close();
            unavailable(error)
        })
    }

    /// Closes the file until the next commit.
    pub(super) fn close(&self) {
        drop(self.db.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn with<T>(&self, read: impl FnOnce(&Database) -> CloudResult<T>) -> CloudResult<T> {
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        read(db.as_ref().ok_or_else(|| unavailable("it could not be written and is closed"))?)
    }
}

/// Returns the error for a file that cannot be used.
pub(super) fn unavailable(error: impl std::fmt::Display) -> CloudError {
    CloudError::Unavailable(format!("queue file: {error}"))
}

//! The journal: what the durable queues store, in one file with one writing thread.
//!
//! Changes gather in memory until the first of them is due, and go to disk in one transaction (group commit). A message
//! that is deleted before it was written is never written.
//!
//! When a commit fails, for example because the disk is full, those who wait for it get the error, and nothing more is
//! accepted until a commit succeeds. All that was accepted before is tried again every second.

mod damage;
#[cfg(any(test, feature = "fuzzing"))]
mod disk;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod pending;
mod renewal;
mod repair;
mod tables;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

pub use self::repair::Repair;
use self::{
    damage::FileError,
    file::{JournalFile, Open},
    pending::{BUFFERED_LINGER, Changes, LINGER, Pending, Put},
    renewal::{Copying, Schedule},
};
pub(super) use self::{
    pending::StoredMessage,
    repair::{THREAD as REPAIR_THREAD, groups, repair},
};
use super::queue_index::Seq;
use crate::cloud::{CloudError, CloudResult};

/// Number of changes that may wait for the writer. Beyond that, callers block until it has caught up, which takes some
/// milliseconds.
const MAX_PENDING: usize = 16_384;

/// Pause between attempts to write after a failure.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What the writer does next.
enum Work {
    Commit(Changes),
    /// Begin to copy the file.
    Copy,
    /// Replace the file with its copy.
    Replace,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// Notifies the writer that something is due earlier than it expects.
    earlier: Condvar,
    /// Notifies callers that the writer has taken changes.
    room: Condvar,
    /// A copy of the file has been made, or has failed. Changed while `pending` is locked, so that the writer notices.
    copied: AtomicBool,
    /// The last commit failed.
    broken: AtomicBool,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn check(&self) -> CloudResult<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(CloudError::Unavailable("the queue's file cannot be written; see the log".into()));
        }
        Ok(())
    }

    /// Applies `change` to the pending changes, at the current time.
    fn change(&self, change: impl FnOnce(&mut Pending, Instant)) {
        let mut pending = self.pending();
        while pending.len() >= MAX_PENDING {
            pending = self.room.wait(pending).unwrap_or_else(|e| e.into_inner());
        }
        let known = pending.due();
        change(&mut pending, now());
        if pending.due().is_some_and(|due| known.is_none_or(|known| due < known)) {
            self.earlier.notify_one();
        }
    }

    /// Notes that a copy of the file has been made, or has failed.
    fn copied(&self) {
        let _pending = self.pending();
        self.copied.store(true, Ordering::Relaxed);
        self.earlier.notify_one();
    }

    /// Waits for what the next commit must write, for a copy of the file, or until a copy must be begun at `renew_at`;
    /// `None` when the journal is closed and everything is written.
    fn next(&self, renew_at: Option<Instant>) -> Option<Work> {
        let mut pending = self.pending();
        loop {
            let now = now();
            let (due, closing) = (pending.due(), pending.closing());
            if closing && pending.is_empty() {
                return None;
            }
            // First, so that a busy writer renews too.
            if !closing && renew_at.is_some_and(|at| at <= now) {
                return Some(Work::Copy);
            }
            if !closing && self.copied.swap(false, Ordering::Relaxed) {
                return Some(Work::Replace);
            }
            if closing || due.is_some_and(|due| due <= now) {
                break;
            }
            pending = match due.into_iter().chain(renew_at).min() {
                Some(until) => {
                    let waited = self.earlier.wait_timeout(pending, until - now);
                    waited.unwrap_or_else(|e| e.into_inner()).0
                }
                None => self.earlier.wait(pending).unwrap_or_else(|e| e.into_inner()),
            };
        }
        let taken = pending.take(now());
        self.room.notify_all();
        Some(Work::Commit(taken))
    }
}

/// Handle to the journal. Dropping it writes what is pending and closes the file.
pub(super) struct Journal {
    file: Arc<JournalFile>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the file and verifies it, or creates it. Only one process can have it open.
    ///
    /// # Errors
    /// The file is in use or damaged, or it cannot be read or written. The message has the remedy.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = path.to_owned();
        Self::open_with(Box::new(move |builder| tables::open(builder, &file)), Some(path.to_owned()))
    }

    /// Opens the file with `open`, which is also used after an error. It can be renewed if it is the file at `path`.
    fn open_with(open: Open, path: Option<PathBuf>) -> anyhow::Result<Self> {
        let name = path.as_ref().map_or_else(|| "the queues' file".into(), |path| path.display().to_string());
        let file = Arc::new(JournalFile::open(open, path).map_err(|error| match error {
            FileError::Damaged(damage) => anyhow::anyhow!("{}", damaged(&name, &damage)),
            FileError::Failed(error) => anyhow::anyhow!("cannot open {name}: {error}"),
        })?);
        let shared = Arc::<Shared>::default();
        let writer = std::thread::Builder::new().name("journal".into()).spawn({
            let (file, shared) = (file.clone(), shared.clone());
            move || write_all(&file, &shared)
        })?;
        Ok(Self { file, shared, writer: Some(writer) })
    }

    /// Returns all messages of a queue, in the order of their positions.
    pub(super) fn messages(&self, queue: &str) -> CloudResult<Vec<(Seq, StoredMessage)>> {
        self.file.messages(queue)
    }

    /// Returns the highest position in any queue, or zero.
    pub(super) fn last_seq(&self) -> CloudResult<Seq> {
        self.file.last_seq()
    }

    /// Returns the body of a message that was written.
    pub(super) fn body(&self, queue: &str, seq: Seq) -> CloudResult<Option<Bytes>> {
        self.file.body(queue, seq)
    }

    /// Writes a message. The returned receiver resolves when the message is durable, or deleted.
    pub(super) fn put(
        &self,
        queue: &Arc<str>,
        seq: Seq,
        message: StoredMessage,
        body: Bytes,
    ) -> oneshot::Receiver<CloudResult<()>> {
        let (answer, answered) = oneshot::channel();
        self.shared.change(|pending, now| {
            let mut put = Put::new(queue.clone(), message, body, now, LINGER);
            put.answer = Some(answer);
            pending.put(seq, put);
        });
        answered
    }

    /// Writes a message some seconds later, unless it is deleted before.
    pub(super) fn put_buffered(&self, queue: &Arc<str>, seq: Seq, message: StoredMessage, body: Bytes) {
        let queue = queue.clone();
        self.shared.change(|pending, now| pending.put(seq, Put::new(queue, message, body, now, BUFFERED_LINGER)));
    }

    /// Writes `to` and deletes `from` in the same commit.
    pub(super) fn replace(&self, from: (&Arc<str>, Seq), to: (&Arc<str>, Seq), message: StoredMessage, body: Bytes) {
        let from = (from.0.clone(), from.1);
        let queue = to.0.clone();
        self.shared.change(|pending, now| pending.replace(from, to.1, Put::new(queue, message, body, now, LINGER)));
    }

    /// Deletes a message. The returned receiver resolves when that is durable.
    pub(super) fn delete(&self, queue: &Arc<str>, seq: Seq) -> oneshot::Receiver<CloudResult<()>> {
        let (answer, answered) = oneshot::channel();
        self.shared.change(|pending, now| pending.delete((queue.clone(), seq), answer, now));
        answered
    }

    /// Writes, with the next commit, how often a message has been received.
    pub(super) fn count_receives(&self, queue: &Arc<str>, seq: Seq, receives: u32) {
        self.shared.change(|pending, now| pending.count_receives((queue.clone(), seq), receives, now));
    }

    /// Writes everything at once. The returned receiver resolves when all that was put before is durable.
    pub(super) fn flush(&self) -> oneshot::Receiver<CloudResult<()>> {
        let (answer, answered) = oneshot::channel();
        self.shared.change(|pending, now| pending.flush(answer, now));
        answered
    }

    /// Copies what has been written to `path`, an empty file. Durable on return.
    pub(super) fn copy_to(&self, path: &Path) -> CloudResult<()> {
        self.file.copy_to(path)
    }

    /// Follows what is wrong with the file. Once that is known, nothing more is read or written.
    pub(super) fn damage(&self) -> watch::Receiver<Option<String>> {
        self.file.damage()
    }

    /// Checks that the last commit succeeded. Nothing more is accepted otherwise.
    pub(super) fn check(&self) -> CloudResult<()> {
        self.shared.check()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.pending().close();
        self.shared.earlier.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // the panic hook has reported a panic
        }
    }
}

/// Says what to do about a damaged file.
pub(super) fn damaged(name: &str, damage: &str) -> String {
    format!(
        "{name} is damaged ({damage}): run `rollcall queue repair`, which keeps it under another name and all jobs that \
         can be read"
    )
}

#[expect(clippy::disallowed_methods, reason = "a thread that waits for a condition variable has no other clock")]
fn now() -> Instant {
    Instant::now()
}

fn write_all(file: &JournalFile, shared: &Arc<Shared>) {
    let mut renewals = Renewals { schedule: Schedule::new(now()), copying: None };
    while let Some(work) = shared.next(renewals.due()) {
        let changes = match work {
            Work::Commit(changes) => changes,
            Work::Copy => {
                renewals.begin(file, shared);
                continue;
            }
            Work::Replace => {
                renewals.end(file);
                continue;
            }
        };
        let result = file.commit(&changes);
        renewals.note(&changes, result.is_ok());
        let was_broken = shared.broken.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Ok(()) => {
                if was_broken {
                    tracing::info!("the queues can be written again");
                }
                changes.succeed();
            }
            Err(error) => {
                if !was_broken {
                    tracing::error!(%error, "the queues cannot be written: no jobs are accepted until they can");
                }
                let mut pending = shared.pending();
                if pending.closing() {
                    tracing::error!("what has not been written is lost, because this process ends");
                    return changes.fail(&error);
                }
                pending.put_back(changes, &error, now() + RETRY_EVERY);
            }
        }
    }
    if renewals.copying.is_some() || renewals.schedule.due().is_some() {
        renewals.begin(file, shared);
        renewals.end(file);
    }
}

/// The renewals of the file, by the thread that commits.
struct Renewals {
    schedule: Schedule,
    copying: Option<Copying>,
}

impl Renewals {
    /// Returns when a copy must be begun, unless one is being made.
    fn due(&self) -> Option<Instant> {
        self.schedule.due().filter(|_| self.copying.is_none())
    }

    /// Notes a commit.
    fn note(&mut self, changes: &Changes, is_committed: bool) {
        // A part of what is refused may have been written.
        if changes.deletes_stored() || !is_committed {
            self.schedule.deleted(now());
        }
        match &mut self.copying {
            Some(copying) if is_committed => copying.note(changes),
            // The file was closed, and can be opened again only when nothing reads it.
            Some(_) => {
                self.copying = None;
                self.schedule.failed(now());
            }
            None => {}
        }
    }

    fn begin(&mut self, file: &JournalFile, shared: &Arc<Shared>) {
        self.copying = None; // an earlier one would leave out less
        shared.copied.store(false, Ordering::Relaxed);
        self.schedule.began();
        let done = shared.clone();
        match file.begin_copy(now(), move || done.copied()) {
            Ok(copying) => self.copying = copying,
            Err(error) => self.failed(&error),
        }
    }

    fn end(&mut self, file: &JournalFile) {
        let Some(copying) = self.copying.take() else { return };
        let began = copying.began;
        match file.replace(copying) {
            Ok(()) => self.schedule.renewed(began, now()),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &CloudError) {
        tracing::warn!(%error, "deleted messages remain in the queues' file; it is renewed in a minute");
        self.schedule.failed(now());
    }
}

#[cfg(test)]
mod tests;

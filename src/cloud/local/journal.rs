//! What the queues keep on disk: one redb file, one writing thread, group commit. Changes gather in memory until the first
//! of them is due and go in one transaction. A message deleted before it was written is never written.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::oneshot;

use super::queue_index::Seq;
use crate::cloud::{CloudError, CloudResult};

type Row = (u32, u64, Option<&'static str>, Option<&'static str>);
/// Queue name and position → receives, visible from (epoch ms), message group, deduplication id.
const META: TableDefinition<(&str, Seq), Row> = TableDefinition::new("messages 2");
/// Queue name and position → body.
const BODIES: TableDefinition<(&str, Seq), &[u8]> = TableDefinition::new("bodies 2");
/// Most messages written by one commit.
const BATCH: usize = 64;
/// Changes that may wait for the writer; a caller beyond that blocks until it has caught up, some milliseconds.
const WAITING: usize = 16_384;
/// How long a message whose sender waits lets others share its commit.
const LINGER: Duration = Duration::from_millis(2);
/// How long deletes and counts do: nobody waits for them, and most of them find a message to go with.
const LAZY_LINGER: Duration = Duration::from_millis(50);
/// How long a message that may be written soon waits to be deleted instead.
const SOON: Duration = Duration::from_millis(500);

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub receives: u32,
    pub visible_at: u64,
    pub group: Option<String>,
    pub dedup: Option<String>,
}

type Answer = oneshot::Sender<CloudResult<()>>;

/// A message to write.
struct Put {
    queue: Arc<str>,
    kept: Kept,
    body: Bytes,
    due: Instant,
    done: Option<Answer>,
}

/// Changes by position, which is of one message in one queue.
#[derive(Default)]
struct Changes {
    puts: BTreeMap<Seq, Put>,
    deletes: BTreeMap<Seq, (Arc<str>, Answer)>,
    receives: BTreeMap<Seq, (Arc<str>, u32)>,
    /// Told when all that is here has been written.
    flushes: Vec<Answer>,
}

impl Changes {
    fn len(&self) -> usize {
        self.puts.len() + self.deletes.len() + self.receives.len()
    }
}

/// What the writer will do next.
#[derive(Default)]
struct Pending {
    changes: Changes,
    /// When it commits.
    due: Option<Instant>,
    /// No more changes come: it writes what there is and ends.
    closing: bool,
}

impl Pending {
    /// What is due at `now` leaves, messages at most [`BATCH`] at a time.
    fn take(&mut self, now: Instant) -> Changes {
        let all = self.closing || !self.changes.flushes.is_empty();
        let due = self.changes.puts.extract_if(.., |_, put| all || put.due <= now);
        let mut taken = Changes { puts: due.take(BATCH).collect(), ..Changes::default() };
        taken.deletes = std::mem::take(&mut self.changes.deletes);
        taken.receives = std::mem::take(&mut self.changes.receives);
        self.due = self.changes.puts.values().map(|put| put.due).min();
        if self.due.is_none() {
            taken.flushes = std::mem::take(&mut self.changes.flushes);
        } else if all {
            self.due = Some(now); // flushes wait for the rest
        }
        taken
    }
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// Tells the writer that something is due earlier than it knows.
    earlier: Condvar,
    /// Tells callers that the writer has taken changes.
    room: Condvar,
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

    /// Notes a change that is to be written in `linger`.
    #[expect(clippy::disallowed_methods, reason = "the journal's thread waits by the system's clock")]
    fn change(&self, linger: Duration, change: impl FnOnce(&mut Changes, Instant)) {
        let mut pending = self.pending();
        while pending.changes.len() >= WAITING {
            pending = self.room.wait(pending).unwrap_or_else(|e| e.into_inner());
        }
        let due = Instant::now() + linger;
        change(&mut pending.changes, due);
        if pending.due.is_none_or(|known| due < known) {
            pending.due = Some(due);
            self.earlier.notify_one();
        }
    }

    /// Waits until something is due. `None`: there will be nothing any more.
    #[expect(clippy::disallowed_methods, reason = "the journal's thread waits by the system's clock")]
    fn next(&self) -> Option<Changes> {
        let mut pending = self.pending();
        loop {
            let now = Instant::now();
            match pending.due {
                _ if pending.closing && pending.changes.len() + pending.changes.flushes.len() == 0 => return None,
                due if pending.closing || due.is_some_and(|due| due <= now) => break,
                Some(due) => {
                    let waited = self.earlier.wait_timeout(pending, due - now);
                    pending = waited.unwrap_or_else(|e| e.into_inner()).0;
                }
                None => pending = self.earlier.wait(pending).unwrap_or_else(|e| e.into_inner()),
            }
        }
        let taken = pending.take(Instant::now());
        self.room.notify_all();
        Some(taken)
    }
}

/// Handle to the journal; the file is closed when the last one is dropped.
pub struct Journal {
    db: Arc<Database>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens or makes the file. Only one process can have it open.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let db = match Database::create(path) {
            Ok(db) => db,
            Err(DatabaseError::DatabaseAlreadyOpen) => anyhow::bail!(
                "{} is in use: another rollcall is running on this folder; stop it or set local.data_dir",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot open {}: if it is damaged, move it away (queued jobs are lost)", path.display())
                });
            }
        };
        let db = Arc::new(db);
        let shared = Arc::<Shared>::default();
        let writer = std::thread::Builder::new().name("journal".into()).spawn({
            let (db, shared) = (db.clone(), shared.clone());
            move || write_all(&db, &shared)
        })?;
        Ok(Self { db, shared, writer: Some(writer) })
    }

    /// All kept messages of a queue, in order.
    pub fn load(&self, queue: &str) -> anyhow::Result<Vec<(Seq, Kept)>> {
        let read = self.db.begin_read()?;
        let table = match read.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut out = Vec::new();
        for row in table.range((queue, 0)..=(queue, Seq::MAX))? {
            let (key, value) = row?;
            let (receives, visible_at, group, dedup) = value.value();
            let (group, dedup) = (group.map(str::to_owned), dedup.map(str::to_owned));
            out.push((key.value().1, Kept { receives, visible_at, group, dedup }));
        }
        Ok(out)
    }

    /// The highest position in any queue.
    pub fn last(&self) -> anyhow::Result<Seq> {
        let read = self.db.begin_read()?;
        match read.open_table(META) {
            Ok(table) => {
                let rows = table.iter()?.map(|row| row.map(|(key, _)| key.value().1));
                Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0))
            }
            Err(TableError::TableDoesNotExist(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// The body of a message that was written.
    pub fn body(&self, queue: &str, seq: Seq) -> CloudResult<Option<Bytes>> {
        let read = || -> Result<_, redb::Error> {
            Ok(self
                .db
                .begin_read()?
                .open_table(BODIES)?
                .get((queue, seq))?
                .map(|body| Bytes::copy_from_slice(body.value())))
        };
        read().map_err(unavailable)
    }

    /// Writes a message; the answer comes when it is durable, or deleted.
    pub fn put(&self, queue: &Arc<str>, seq: Seq, kept: Kept, body: Bytes) -> oneshot::Receiver<CloudResult<()>> {
        let (done, answer) = oneshot::channel();
        self.put_in(LINGER, queue, seq, (kept, body, Some(done)));
        answer
    }

    /// Writes a message soon, unless it is deleted before.
    pub fn put_buffered(&self, queue: &Arc<str>, seq: Seq, kept: Kept, body: Bytes) {
        self.put_in(SOON, queue, seq, (kept, body, None));
    }

    fn put_in(&self, linger: Duration, queue: &Arc<str>, seq: Seq, message: (Kept, Bytes, Option<Answer>)) {
        let (kept, body, done) = message;
        self.shared.change(linger, |changes, due| {
            changes.puts.insert(seq, Put { queue: queue.clone(), kept, body, due, done });
        });
    }

    /// Deletes a message; the answer comes when that is durable.
    pub fn delete(&self, queue: &Arc<str>, seq: Seq) -> oneshot::Receiver<CloudResult<()>> {
        let (done, answer) = oneshot::channel();
        let unwritten = self.shared.pending().changes.puts.remove(&seq);
        if let Some(put) = unwritten {
            for done in [put.done, Some(done)].into_iter().flatten() {
                let _ = done.send(Ok(())); // nobody need wait
            }
        } else {
            self.shared.change(LAZY_LINGER, |changes, _| {
                changes.receives.remove(&seq);
                changes.deletes.insert(seq, (queue.clone(), done));
            });
        }
        answer
    }

    /// Notes how often a message was received, some time soon.
    pub fn receives(&self, queue: &Arc<str>, seq: Seq, receives: u32) {
        self.shared.change(LAZY_LINGER, |changes, _| match changes.puts.get_mut(&seq) {
            Some(put) => put.kept.receives = receives,
            None => drop(changes.receives.insert(seq, (queue.clone(), receives))),
        });
    }

    /// The answer comes when all that was put before is durable.
    pub fn flush(&self) -> oneshot::Receiver<CloudResult<()>> {
        let (done, answer) = oneshot::channel();
        self.shared.change(LINGER, |changes, _| changes.flushes.push(done));
        answer
    }

    /// Whether writing has failed; nothing is accepted any more then.
    pub fn check(&self) -> CloudResult<()> {
        self.shared.check()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.pending().closing = true;
        self.shared.earlier.notify_one();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // it only ends; a panic has been reported by the hook
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> CloudError {
    CloudError::Unavailable(format!("queue file: {error}"))
}

fn write_all(db: &Database, shared: &Shared) {
    while let Some(Changes { puts, deletes, receives, flushes }) = shared.next() {
        // Callers wait for an answer, also from a fault of the database's.
        let committed = catch_unwind(AssertUnwindSafe(|| commit(db, &puts, &deletes, &receives).map_err(unavailable)));
        let result = committed.unwrap_or_else(|_| Err(unavailable("the writer panicked")));
        if let Err(error) = &result {
            shared.broken.store(true, Ordering::Relaxed);
            tracing::error!(%error, "queue not written: no more jobs are accepted");
        }
        let written = puts.into_values().filter_map(|put| put.done);
        for done in written.chain(deletes.into_values().map(|(_, done)| done)) {
            let _ = done.send(result.clone()); // whoever sent may not wait any more
        }
        let flushed = shared.check(); // what was put before may be in a commit that failed before
        for done in flushes {
            let _ = done.send(flushed.clone());
        }
    }
}

fn commit(
    db: &Database,
    puts: &BTreeMap<Seq, Put>,
    deletes: &BTreeMap<Seq, (Arc<str>, Answer)>,
    receives: &BTreeMap<Seq, (Arc<str>, u32)>,
) -> Result<(), redb::Error> {
    if puts.is_empty() && deletes.is_empty() && receives.is_empty() {
        return Ok(());
    }
    let mut write = db.begin_write()?;
    write.set_quick_repair(true); // reopening after a crash takes a millisecond instead of seconds
    {
        let (mut meta, mut bodies) = (write.open_table(META)?, write.open_table(BODIES)?);
        for (&seq, Put { queue, kept, body, .. }) in puts {
            let Kept { receives, visible_at, group, dedup } = kept;
            meta.insert((&**queue, seq), (*receives, *visible_at, group.as_deref(), dedup.as_deref()))?;
            bodies.insert((&**queue, seq), &**body)?;
        }
        for (&seq, (queue, _)) in deletes {
            meta.remove((&**queue, seq))?;
            bodies.remove((&**queue, seq))?;
        }
        for (&seq, (queue, receives)) in receives {
            let kept = meta.get((&**queue, seq))?.map(|row| {
                let (_, visible_at, group, dedup) = row.value();
                (visible_at, group.map(str::to_owned), dedup.map(str::to_owned))
            });
            if let Some((visible_at, group, dedup)) = kept {
                meta.insert((&**queue, seq), (*receives, visible_at, group.as_deref(), dedup.as_deref()))?;
            }
        }
    }
    write.commit()?;
    Ok(())
}

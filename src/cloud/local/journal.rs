//! What the queues keep on disk: one redb file, one writing thread, group commit. Whatever arrives while a commit is under
//! way, or within a linger of the first, shares the next one. A message deleted before it was written is never written.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tokio::sync::oneshot;

use super::queue_index::Seq;
use crate::cloud::{CloudError, CloudResult};

type Row = (u32, u64, Option<&'static str>, Option<&'static str>);
/// Queue name and position → receives, visible from (epoch ms), message group, deduplication id.
const META: TableDefinition<(&str, Seq), Row> = TableDefinition::new("messages");
/// Queue name and position → body.
const BODIES: TableDefinition<(&str, Seq), &str> = TableDefinition::new("bodies");
/// Most entries in one commit.
const BATCH: usize = 64;
/// Entries that may wait for the writer; a caller beyond that blocks until it has caught up, some milliseconds.
const WAITING: usize = 16_384;
/// How long a message to write waits for others to share its commit: its sender waits.
const LINGER: Duration = Duration::from_millis(2);
/// How long anything else does: nobody waits for it, and most of it finds a message to go with.
const LAZY_LINGER: Duration = Duration::from_millis(50);

/// A message as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    pub receives: u32,
    pub visible_at: u64,
    pub group: Option<String>,
    pub dedup: Option<String>,
}

type Place = (Arc<str>, Seq);

enum Entry {
    Put { place: Place, kept: Kept, body: Arc<str> },
    Delete { place: Place },
    Receives { place: Place, receives: u32 },
}

impl Entry {
    fn linger(&self) -> Duration {
        match self {
            Entry::Put { .. } => LINGER,
            Entry::Delete { .. } | Entry::Receives { .. } => LAZY_LINGER,
        }
    }
}

struct Request {
    entry: Entry,
    done: Option<oneshot::Sender<CloudResult<()>>>,
}

/// Handle to the journal; the file is closed when the last one is dropped.
pub struct Journal {
    db: Arc<Database>,
    requests: Option<mpsc::SyncSender<Request>>,
    writer: Option<JoinHandle<()>>,
    broken: Arc<AtomicBool>,
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
        let broken = Arc::new(AtomicBool::new(false));
        let (requests, inbox) = mpsc::sync_channel(WAITING);
        let writer = std::thread::Builder::new().name("journal".into()).spawn({
            let (db, broken) = (db.clone(), broken.clone());
            move || write_all(&db, &inbox, &broken)
        })?;
        Ok(Self { db, requests: Some(requests), writer: Some(writer), broken })
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
    pub fn body(&self, queue: &str, seq: Seq) -> CloudResult<Option<Arc<str>>> {
        let read = || -> Result<_, redb::Error> {
            Ok(self.db.begin_read()?.open_table(BODIES)?.get((queue, seq))?.map(|body| Arc::from(body.value())))
        };
        read().map_err(unavailable)
    }

    /// Writes a message; the answer comes when it is durable.
    pub fn put(&self, queue: &Arc<str>, seq: Seq, kept: Kept, body: Arc<str>) -> oneshot::Receiver<CloudResult<()>> {
        self.request(Entry::Put { place: (queue.clone(), seq), kept, body })
    }

    /// Deletes a message; the answer comes when that is durable.
    pub fn delete(&self, queue: &Arc<str>, seq: Seq) -> oneshot::Receiver<CloudResult<()>> {
        self.request(Entry::Delete { place: (queue.clone(), seq) })
    }

    /// Notes how often a message was received, some time soon.
    pub fn receives(&self, queue: &Arc<str>, seq: Seq, receives: u32) {
        let _soon = self.request(Entry::Receives { place: (queue.clone(), seq), receives });
    }

    /// Whether writing has failed; nothing is accepted any more then.
    pub fn check(&self) -> CloudResult<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(CloudError::Unavailable("the queue's file cannot be written; see the log".into()));
        }
        Ok(())
    }

    fn request(&self, entry: Entry) -> oneshot::Receiver<CloudResult<()>> {
        let (done, answer) = oneshot::channel();
        if let Some(requests) = &self.requests {
            let _ = requests.send(Request { entry, done: Some(done) }); // a writer that is gone drops `done`, which is an answer
        }
        answer
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join(); // it only ends; a panic has been reported by the hook
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> CloudError {
    CloudError::Unavailable(format!("queue file: {error}"))
}

fn write_all(db: &Database, inbox: &mpsc::Receiver<Request>, broken: &AtomicBool) {
    while let Ok(first) = inbox.recv() {
        let mut until = Instant::now() + first.entry.linger();
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(request) => {
                    until = until.min(Instant::now() + request.entry.linger());
                    batch.push(request);
                }
                Err(_) => break,
            }
        }
        let result = commit(db, &batch).map_err(unavailable);
        if let Err(error) = &result {
            broken.store(true, Ordering::Relaxed);
            tracing::error!(%error, "queue not written: no more jobs are accepted");
        }
        for done in batch.into_iter().filter_map(|r| r.done) {
            let _ = done.send(result.clone()); // whoever sent may not wait any more
        }
    }
}

/// The net effect of a batch in one transaction.
fn commit(db: &Database, batch: &[Request]) -> Result<(), redb::Error> {
    let mut puts = BTreeMap::new();
    let mut deletes = Vec::new();
    let mut counts = BTreeMap::new();
    for request in batch {
        match &request.entry {
            Entry::Put { place, kept, body } => {
                puts.insert(place.clone(), (kept, body));
            }
            Entry::Delete { place } => {
                counts.remove(place);
                if puts.remove(place).is_none() {
                    deletes.push(place.clone());
                }
            }
            Entry::Receives { place, receives } => {
                counts.insert(place.clone(), *receives);
            }
        }
    }
    if puts.is_empty() && deletes.is_empty() && counts.is_empty() {
        return Ok(());
    }
    let mut write = db.begin_write()?;
    write.set_quick_repair(true); // reopening after a crash takes a millisecond instead of seconds
    {
        let (mut meta, mut bodies) = (write.open_table(META)?, write.open_table(BODIES)?);
        for ((queue, seq), (kept, body)) in puts {
            let Kept { receives, visible_at, group, dedup } = kept;
            meta.insert((&*queue, seq), (*receives, *visible_at, group.as_deref(), dedup.as_deref()))?;
            bodies.insert((&*queue, seq), &**body)?;
        }
        for (queue, seq) in deletes {
            meta.remove((&*queue, seq))?;
            bodies.remove((&*queue, seq))?;
        }
        for ((queue, seq), receives) in counts {
            let kept = meta.get((&*queue, seq))?.map(|row| {
                let (_, visible_at, group, dedup) = row.value();
                (visible_at, group.map(str::to_owned), dedup.map(str::to_owned))
            });
            if let Some((visible_at, group, dedup)) = kept {
                meta.insert((&*queue, seq), (receives, visible_at, group.as_deref(), dedup.as_deref()))?;
            }
        }
    }
    write.commit()?;
    Ok(())
}

//! Repairs a damaged file: moves it aside, and writes what can be read of it to a new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bytes::Bytes;
use redb::{Database, Error, Key, ReadTransaction, ReadableDatabase as _, ReadableTable as _, TableDefinition, Value};
use tempfile::NamedTempFile;

use super::{
    damage::{FileError, guarded},
    pending::{Changes, LINGER, Put, StoredMessage},
    tables::{self, BODIES, CHECKSUMS, MESSAGES, builder},
};
use crate::cloud::local::queue_index::Seq;

/// How long reading may take without finding a message. A damaged file may lead in circles.
const PATIENCE: Duration = Duration::from_secs(30);

/// Name of the thread that reads the damaged file. The database may panic there.
pub(in crate::cloud::local) const THREAD: &str = "repair";

/// The outcome of a repair.
#[derive(Debug, PartialEq, Eq)]
pub struct Repair {
    /// Number of messages that are in the new file.
    pub kept: usize,
    /// The groups of these messages, which are the ids of their jobs.
    pub queued: Vec<String>,
    /// Number of messages that are known and cannot be read. There may be more.
    pub lost: usize,
    /// Where the damaged file is now.
    pub aside: PathBuf,
}

/// A message by its queue and position.
type Position = (String, Seq);
/// What was read of a file.
type Messages = BTreeMap<Position, (StoredMessage, Bytes)>;

/// What reading a damaged file finds.
enum Found {
    Message(Position, StoredMessage, Bytes),
    Lost,
}

/// Repairs the file at `path`; returns `None` if it is not damaged. It must not be open.
///
/// # Errors
/// The file is in use, or a file cannot be read or written. The damaged one is then still in its place.
pub(in crate::cloud::local) fn repair(path: &Path) -> anyhow::Result<Option<Repair>> {
    if !path.try_exists().with_context(|| path.display().to_string())? {
        return Ok(None);
    }
    match guarded(|| tables::verify(&tables::open(&builder(true), path)?)) {
        Ok(_) => return Ok(None),
        Err(FileError::Damaged(_)) => {}
        Err(FileError::Failed(error)) => anyhow::bail!("cannot open {}: {error}", path.display()),
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    // Opening a database changes its file.
    let copy = NamedTempFile::new_in(folder)?;
    fs::copy(path, copy.path()).with_context(|| format!("cannot copy {}", path.display()))?;
    let (found, lost) = read_all(copy.path())?;

    let new = NamedTempFile::new_in(folder)?;
    let kept = found.len();
    let queued = found.values().filter_map(|(message, _)| message.group.clone()).collect();
    guarded(|| write_all(new.path(), found)).context("cannot write the new file")?;
    new.as_file().sync_all()?;
    let aside = aside(path)?;
    new.persist(path).with_context(|| format!("cannot replace {}", path.display()))?;
    File::open(folder)?.sync_all()?;
    Ok(Some(Repair { kept, queued, lost, aside }))
}

/// Returns the groups of all messages in the file at `path`, which is verified; none if there is no file.
///
/// # Errors
/// The file is in use or damaged, or cannot be read.
pub(in crate::cloud::local) fn groups(path: &Path) -> anyhow::Result<Vec<String>> {
    if !path.try_exists().with_context(|| path.display().to_string())? {
        return Ok(Vec::new());
    }
    let read = guarded(|| tables::groups(&tables::open(&builder(true), path)?));
    read.with_context(|| format!("cannot read {}", path.display()))
}

/// Gives the file a second name that is not taken.
fn aside(path: &Path) -> anyhow::Result<PathBuf> {
    for n in 1..1000 {
        let aside = path.with_extension(format!("damaged-{n}"));
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", aside.display())),
        }
    }
    anyhow::bail!("too many damaged files beside {}: remove them", path.display())
}

/// Reads what can be read, and counts what is known and cannot.
fn read_all(path: &Path) -> io::Result<(Messages, usize)> {
    let (send, receive) = mpsc::sync_channel(16);
    let path = path.to_owned();
    // Not joined: it may never end.
    let reading = std::thread::Builder::new().name(THREAD.into()).spawn(move || {
        let _ = guarded(|| read(&path, &send)); // what was found before is kept
    });
    reading?;
    let (mut found, mut lost) = (BTreeMap::new(), 0);
    loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(Found::Message(position, message, body)) => drop(found.insert(position, (message, body))),
            Ok(Found::Lost) => lost += 1,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok((found, lost)),
        }
    }
}

fn read(path: &Path, send: &SyncSender<Found>) -> Result<(), Error> {
    let db = builder(false).open(path)?;
    let read = db.begin_read()?;
    let mut positions = BTreeSet::new();
    add_positions(&read, MESSAGES, &mut positions);
    add_positions(&read, BODIES, &mut positions);
    add_positions(&read, CHECKSUMS, &mut positions);
    for position in positions {
        let found = match guarded(|| tables::message(&read, &position.0, position.1)) {
            // The count may be damaged, and would then make a dead letter of the job.
            Ok(Some((message, body))) => Found::Message(position, StoredMessage { receives: 0, ..message }, body),
            Ok(None) | Err(_) => Found::Lost,
        };
        if send.send(found).is_err() {
            break; // nobody waits any more
        }
    }
    drop(read);
    std::mem::forget(db); // closing it would write to it
    Ok(())
}

/// Adds the keys of a table that can be read from its start and from its end.
fn add_positions<V: Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<(&'static str, Seq), V>,
    positions: &mut BTreeSet<Position>,
) where
    (&'static str, Seq): Key,
{
    for backwards in [false, true] {
        let _ = guarded(|| {
            let table = read.open_table(table)?;
            let mut rows = table.iter()?;
            let mut last = None;
            while let Some(row) = if backwards { rows.next_back() } else { rows.next() } {
                let (queue, seq) = {
                    let (key, _) = row?;
                    let (queue, seq) = key.value();
                    (queue.to_owned(), seq)
                };
                let position = (queue, seq);
                if last.as_ref().is_some_and(|last| if backwards { *last <= position } else { *last >= position }) {
                    break; // out of order
                }
                last = Some(position.clone());
                positions.insert(position);
            }
            Ok(())
        });
    }
}

fn write_all(path: &Path, messages: Messages) -> Result<(), Error> {
    let db: Database = builder(false).create(path)?;
    let mut changes = Changes::default();
    for ((queue, seq), (message, body)) in messages {
        changes.puts.insert(seq, Put::new(queue.into(), message, body, now(), LINGER));
    }
    tables::commit(&db, &changes, true)
}

#[expect(clippy::disallowed_methods, reason = "a put has the time at which it was created")]
fn now() -> Instant {
    Instant::now()
}

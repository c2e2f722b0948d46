//! The tables of the queues' file, an embedded `redb` database.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use redb::{
    Builder, Database, Error, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError,
};
use tempfile::NamedTempFile;

use super::pending::{Changes, Key, StoredMessage};
use crate::{cloud::local::queue_index::Seq, private_files::create_private};

/// Memory for pages of the file. The queues keep in memory what they need; the database's default is a gigabyte.
const CACHE_BYTES: usize = 64 << 20;

type Row = (u32, u64, Option<&'static str>, Option<&'static str>);
/// Queue name and position → receives, visible from (ms since the epoch), message group, deduplication id.
pub(super) const MESSAGES: TableDefinition<(&str, Seq), Row> = TableDefinition::new("messages 2");
/// Queue name and position → body.
pub(super) const BODIES: TableDefinition<(&str, Seq), &[u8]> = TableDefinition::new("bodies 2");
/// Queue name and position → CRC-32 of what never changes of the message. Messages of earlier releases have none.
pub(super) const CHECKSUMS: TableDefinition<(&str, Seq), u32> = TableDefinition::new("checksums");

/// Returns what opens the file, and verifies all of it if `verify` is set. Otherwise, damage is found where it is read.
pub(super) fn builder(verify: bool) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(verify);
    builder
}

/// Opens the file, or creates it readable by its owner only. Only one process can have it open.
pub(super) fn open(builder: &Builder, path: &Path) -> Result<Database, Error> {
    if !path.try_exists()? {
        // An empty file is damaged, so a new one gets its name when it is complete.
        let folder = path.parent().unwrap_or(Path::new("."));
        let new = NamedTempFile::new_in(folder)?;
        drop(builder.create(new.path())?);
        new.persist_noclobber(path).map_err(|e| e.error)?;
        std::fs::File::open(folder)?.sync_all()?;
    }
    create_private(path)?;
    Ok(builder.open(path)?)
}

/// Copies all messages that `from` sees to a database without tables, in one transaction, durable on return.
///
/// # Errors
/// Something cannot be read or written, or `cancelled` is set meanwhile.
pub(super) fn copy(from: &ReadTransaction, to: &Database, cancelled: &AtomicBool) -> Result<(), Error> {
    write(to, |tables| {
        // A damaged message must not look whole in the new file.
        for_each(from, |key, message, body| {
            if cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::from(io::ErrorKind::Interrupted).into());
            }
            tables.insert(key, &message, &body)
        })
    })
}

/// Makes these messages in `to` as they are in `from`, in one transaction, durable on return.
pub(super) fn copy_again(from: &Database, to: &Database, keys: &BTreeSet<Key>) -> Result<(), Error> {
    if keys.is_empty() {
        return Ok(());
    }
    let read = from.begin_read()?;
    write(to, |tables| {
        for (queue, seq) in keys {
            match message(&read, queue, *seq)? {
                Some((message, body)) => tables.insert((queue, *seq), &message, &body)?,
                None => tables.remove((queue, *seq))?,
            }
        }
        Ok(())
    })
}

/// The tables in a transaction that writes.
struct Tables<'a> {
    messages: Table<'a, (&'static str, Seq), Row>,
    bodies: Table<'a, (&'static str, Seq), &'static [u8]>,
    checksums: Table<'a, (&'static str, Seq), u32>,
}

impl Tables<'_> {
    fn insert(&mut self, key: (&str, Seq), message: &StoredMessage, body: &[u8]) -> Result<(), Error> {
        let StoredMessage { receives, visible_at, group, dedup } = message;
        self.messages.insert(key, (*receives, *visible_at, group.as_deref(), dedup.as_deref()))?;
        self.bodies.insert(key, body)?;
        self.checksums.insert(key, checksum(message, body))?;
        Ok(())
    }

    fn remove(&mut self, key: (&str, Seq)) -> Result<(), Error> {
        self.messages.remove(key)?;
        self.bodies.remove(key)?;
        self.checksums.remove(key)?;
        Ok(())
    }
}

/// Changes the tables in one transaction, durable on return.
fn write(db: &Database, change: impl FnOnce(&mut Tables<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let mut write = db.begin_write()?;
    write.set_quick_repair(true); // opening the file after an error takes a millisecond instead of seconds
    {
        let (messages, bodies) = (write.open_table(MESSAGES)?, write.open_table(BODIES)?);
        change(&mut Tables { messages, bodies, checksums: write.open_table(CHECKSUMS)? })?;
    }
    Ok(write.commit()?)
}

/// Checks that each message is as it was written.
pub(super) fn verify(db: &Database) -> Result<(), Error> {
    for_each(&db.begin_read()?, |_, _, _| Ok(()))
}

/// Returns the group of each message that has one, and checks each as [`verify`] does.
pub(super) fn groups(db: &Database) -> Result<Vec<String>, Error> {
    let mut groups = Vec::new();
    for_each(&db.begin_read()?, |_, message, _| {
        groups.extend(message.group);
        Ok(())
    })?;
    Ok(groups)
}

fn for_each(
    read: &ReadTransaction,
    mut take: impl FnMut((&str, Seq), StoredMessage, Bytes) -> Result<(), Error>,
) -> Result<(), Error> {
    let table = match read.open_table(MESSAGES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for row in table.iter()? {
        let (key, _) = row?;
        let (queue, seq) = key.value();
        let whole = message(read, queue, seq)?;
        let (message, body) = whole.ok_or_else(|| Error::Corrupted(format!("message {seq} has no body")))?;
        take((queue, seq), message, body)?;
    }
    Ok(())
}

/// Returns all messages of a queue, in the order of their positions.
pub(super) fn messages(db: &Database, queue: &str) -> Result<Vec<(Seq, StoredMessage)>, Error> {
    let read = db.begin_read()?;
    let table = match read.open_table(MESSAGES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut out = Vec::new();
    for row in table.range((queue, 0)..=(queue, Seq::MAX))? {
        let (key, value) = row?;
        out.push((key.value().1, stored(value.value())));
    }
    Ok(out)
}

/// Returns a message from its row.
fn stored((receives, visible_at, group, dedup): (u32, u64, Option<&str>, Option<&str>)) -> StoredMessage {
    StoredMessage { receives, visible_at, group: group.map(str::to_owned), dedup: dedup.map(str::to_owned) }
}

/// Returns the highest position in any queue, or zero.
pub(super) fn last_seq(db: &Database) -> Result<Seq, Error> {
    let read = db.begin_read()?;
    match read.open_table(MESSAGES) {
        Ok(table) => {
            let rows = table.iter()?.map(|row| row.map(|(key, _)| key.value().1));
            Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().max().unwrap_or(0))
        }
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Returns the body of a message.
pub(super) fn body(db: &Database, queue: &str, seq: Seq) -> Result<Option<Bytes>, Error> {
    Ok(message(&db.begin_read()?, queue, seq)?.map(|(_, body)| body))
}

/// Returns a message and its body, which are as they were written.
pub(super) fn message(read: &ReadTransaction, queue: &str, seq: Seq) -> Result<Option<(StoredMessage, Bytes)>, Error> {
    let key = (queue, seq);
    let Some(message) = read.open_table(MESSAGES)?.get(key)?.map(|row| stored(row.value())) else { return Ok(None) };
    let Some(body) = read.open_table(BODIES)?.get(key)?.map(|body| Bytes::copy_from_slice(body.value())) else {
        return Ok(None);
    };
    let written = match read.open_table(CHECKSUMS) {
        Ok(table) => table.get(key)?.map(|sum| sum.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    if written.is_some_and(|written| written != checksum(&message, &body)) {
        return Err(Error::Corrupted(format!("message {seq} is not what was written")));
    }
    Ok(Some((message, body)))
}

/// Returns the checksum of what never changes of a message.
fn checksum(message: &StoredMessage, body: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    for text in [&message.group, &message.dedup].map(|text| text.as_deref().unwrap_or_default()) {
        sum.update(&(text.len() as u64).to_le_bytes());
        sum.update(text.as_bytes());
    }
    sum.update(body);
    sum.finalize()
}

/// Writes changes in one transaction, durable on return. Writes even if there are none if `always` is set.
pub(super) fn commit(db: &Database, changes: &Changes, always: bool) -> Result<(), Error> {
    let Changes { puts, deletes, receives, flushes: _ } = changes;
    if puts.is_empty() && deletes.is_empty() && receives.is_empty() && !always {
        return Ok(());
    }
    write(db, |tables| {
        for (&seq, put) in puts {
            tables.insert((&put.queue, seq), &put.message, &put.body)?;
        }
        let replaced = puts.values().filter_map(|put| put.replaces.as_ref()).map(|(queue, seq)| (queue, *seq));
        for (queue, seq) in replaced.chain(deletes.iter().map(|(&seq, (queue, _))| (queue, seq))) {
            tables.remove((queue, seq))?;
        }
        for (&seq, (queue, receives)) in receives {
            let key = (&**queue, seq);
            let stored = tables.messages.get(key)?.map(|row| stored(row.value()));
            if let Some(StoredMessage { visible_at, group, dedup, .. }) = stored {
                tables.messages.insert(key, (*receives, visible_at, group.as_deref(), dedup.as_deref()))?;
            }
        }
        Ok(())
    })
}

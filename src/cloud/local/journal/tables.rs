//! The tables of the queues' file, an embedded `redb` database.

use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError, Value,
    WriteTransaction,
};

use super::pending::{Changes, StoredMessage};
use crate::{cloud::local::queue_index::Seq, private_files::create_private};

/// Memory for pages of the file. The queues keep in memory what they need; the database's default is a gigabyte.
const CACHE_BYTES: usize = 64 << 20;

type Row = (u32, u64, Option<&'static str>, Option<&'static str>);
/// Queue name and position → receives, visible from (ms since the epoch), message group, deduplication id.
const MESSAGES: TableDefinition<(&str, Seq), Row> = TableDefinition::new("messages 2");
/// Queue name and position → body.
const BODIES: TableDefinition<(&str, Seq), &[u8]> = TableDefinition::new("bodies 2");

/// Opens the file, or creates it readable by its owner only. Only one process can have it open.
pub(super) fn open(path: &Path) -> anyhow::Result<Database> {
    create_private(path).with_context(|| format!("cannot create {}", path.display()))?;
    match Database::builder().set_cache_size(CACHE_BYTES).create(path) {
        Err(DatabaseError::DatabaseAlreadyOpen) => anyhow::bail!(
            "{} is in use: another rollcall is using this folder; stop it or set local.data_dir",
            path.display()
        ),
        result => result.with_context(|| {
            format!("cannot open {}: if it is damaged, move it away (queued jobs are lost)", path.display())
        }),
    }
}

/// Copies all rows to a database without tables, in one transaction, durable on return.
pub(super) fn copy(from: &Database, to: &Database) -> Result<(), redb::Error> {
    let (read, mut write) = (from.begin_read()?, to.begin_write()?);
    write.set_quick_repair(true);
    copy_table(&read, &write, MESSAGES)?;
    copy_table(&read, &write, BODIES)?;
    Ok(write.commit()?)
}

fn copy_table<V: Value + 'static>(
    read: &ReadTransaction,
    write: &WriteTransaction,
    table: TableDefinition<(&'static str, Seq), V>,
) -> Result<(), redb::Error> {
    let mut copy = write.open_table(table)?;
    let rows = match read.open_table(table) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for row in rows.iter()? {
        let (key, value) = row?;
        copy.insert(key.value(), value.value())?;
    }
    Ok(())
}

/// Returns all messages of a queue, in the order of their positions.
pub(super) fn messages(db: &Database, queue: &str) -> anyhow::Result<Vec<(Seq, StoredMessage)>> {
    let read = db.begin_read()?;
    let table = match read.open_table(MESSAGES) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut out = Vec::new();
    for row in table.range((queue, 0)..=(queue, Seq::MAX))? {
        let (key, value) = row?;
        let (receives, visible_at, group, dedup) = value.value();
        let (group, dedup) = (group.map(str::to_owned), dedup.map(str::to_owned));
        out.push((key.value().1, StoredMessage { receives, visible_at, group, dedup }));
    }
    Ok(out)
}

/// Returns the highest position in any queue, or zero.
pub(super) fn last_seq(db: &Database) -> anyhow::Result<Seq> {
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
pub(super) fn body(db: &Database, queue: &str, seq: Seq) -> Result<Option<Bytes>, redb::Error> {
    let bodies = db.begin_read()?.open_table(BODIES)?;
    Ok(bodies.get((queue, seq))?.map(|body| Bytes::copy_from_slice(body.value())))
}

/// Writes changes in one transaction, durable on return. Writes even if there are none if `always` is set.
pub(super) fn commit(db: &Database, changes: &Changes, always: bool) -> Result<(), redb::Error> {
    let Changes { puts, deletes, receives, flushes: _ } = changes;
    if puts.is_empty() && deletes.is_empty() && receives.is_empty() && !always {
        return Ok(());
    }
    let mut write = db.begin_write()?;
    write.set_quick_repair(true); // opening the file after a crash takes a millisecond instead of seconds
    {
        let (mut messages, mut bodies) = (write.open_table(MESSAGES)?, write.open_table(BODIES)?);
        for (&seq, put) in puts {
            let StoredMessage { receives, visible_at, group, dedup } = &put.message;
            messages.insert((&*put.queue, seq), (*receives, *visible_at, group.as_deref(), dedup.as_deref()))?;
            bodies.insert((&*put.queue, seq), &*put.body)?;
        }
        let replaced = puts.values().filter_map(|put| put.replaces.as_ref()).map(|(queue, seq)| (queue, *seq));
        for (queue, seq) in replaced.chain(deletes.iter().map(|(&seq, (queue, _))| (queue, seq))) {
            messages.remove((&**queue, seq))?;
            bodies.remove((&**queue, seq))?;
        }
        for (&seq, (queue, receives)) in receives {
            let stored = messages.get((&**queue, seq))?.map(|row| {
                let (_, visible_at, group, dedup) = row.value();
                (visible_at, group.map(str::to_owned), dedup.map(str::to_owned))
            });
            if let Some((visible_at, group, dedup)) = stored {
                messages.insert((&**queue, seq), (*receives, visible_at, group.as_deref(), dedup.as_deref()))?;
            }
        }
    }
    write.commit()?;
    Ok(())
}

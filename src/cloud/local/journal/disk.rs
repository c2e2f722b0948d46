//! A disk in memory, which tests fill and damage.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use redb::StorageBackend;

use super::file::Open;

/// Size of the disk, in bytes.
const CAPACITY: u64 = 64 << 20;

/// A disk that outlives the database on it, and may be full.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<State>);

#[derive(Debug, Default)]
struct State {
    bytes: Mutex<Vec<u8>>,
    full: AtomicBool,
    opened: AtomicUsize,
}

impl Disk {
    /// Creates a disk with a file that has this content.
    pub(super) fn with(bytes: Vec<u8>) -> Self {
        Self(Arc::new(State { bytes: Mutex::new(bytes), ..State::default() }))
    }

    /// Returns the content of the file.
    pub(super) fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.bytes.lock().expect("no panic while it was locked")
    }

    /// Makes the disk full, or gives it room again.
    #[cfg(test)]
    pub(super) fn fill(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    /// Returns how often a journal or a database was opened on the disk.
    #[cfg(test)]
    pub(super) fn opened(&self) -> usize {
        self.0.opened.load(Ordering::SeqCst)
    }

    /// Returns what opens the database.
    pub(super) fn opener(&self) -> Open {
        let disk = self.clone();
        Box::new(move |builder| {
            disk.0.opened.fetch_add(1, Ordering::SeqCst);
            Ok(builder.create_with_backend(disk.clone())?)
        })
    }

    fn check(&self) -> io::Result<()> {
        if self.0.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

/// Returns where `length` bytes at `offset` are.
fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    start..start.saturating_add(length)
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes();
        out.copy_from_slice(bytes.get(range(offset, out.len())).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.check()?;
        if length > CAPACITY {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes().resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        let mut bytes = self.bytes();
        bytes.get_mut(range(offset, data.len())).ok_or(io::ErrorKind::StorageFull)?.copy_from_slice(data);
        Ok(())
    }
}

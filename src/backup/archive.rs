//! The archive of a backup: a tar, uncompressed, of plain files. The first entry says what it is. The last one is the
//! SHA-256 of all bytes before it, so that neither a change nor an end that is missing goes unnoticed.

use std::{
    collections::HashSet,
    io::{self, ErrorKind, Read, Write},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, EntryType, Header};

use crate::cloud::{
    local::format,
    object_key::{check_bucket, check_key},
};

/// Name of the queues' file in an archive.
pub(super) const QUEUES: &str = "queues.redb";
/// Folder of the objects in an archive, with one folder for each bucket.
pub(super) const OBJECTS: &str = "objects/";
/// What the names of the audit log's files begin and end with.
pub(super) const AUDIT: (&str, &str) = ("audit", ".jsonl");
/// Name of the first entry.
const MANIFEST: &str = "rollcall-backup.json";
/// Name of the last entry.
const CHECKSUM: &str = "sha256";
/// Length of what follows the bytes that the checksum covers: the last entry's header and content, and the two blocks
/// that end a tar.
const TRAILER: usize = 4 * 512;
/// Longest manifest in bytes.
const MAX_MANIFEST: u64 = 4096;

/// What an archive is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format of the data folder, and of the archive.
    pub format: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// When the backup began, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}

/// Writes an archive.
pub(super) struct ArchiveWriter<W: Write> {
    tar: Builder<Hashed<W>>,
    added: HashSet<String>,
}

impl<W: Write> ArchiveWriter<W> {
    pub(super) fn new(out: W, manifest: &Manifest) -> io::Result<Self> {
        let mut this =
            Self { tar: Builder::new(Hashed { out, hash: Sha256::new(), length: 0 }), added: HashSet::new() };
        let manifest = serde_json::to_vec(manifest)?;
        this.add(MANIFEST, &*manifest, manifest.len() as u64, 0)?;
        Ok(this)
    }

    /// Returns whether there is an entry of this name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.added.contains(name)
    }

    /// Returns the bytes that were written.
    pub(super) fn length(&self) -> u64 {
        self.tar.get_ref().length
    }

    /// Adds a file with this content, last modified at this time (seconds since the Unix epoch).
    ///
    /// # Errors
    /// `content` has another length, or any error of either side.
    pub(super) fn add(&mut self, name: &str, content: impl Read, length: u64, modified: u64) -> io::Result<()> {
        let mut content = content.take(length);
        self.tar.append_data(&mut header(length, modified), name, &mut content)?;
        if content.limit() > 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{name} became shorter while it was read")));
        }
        self.added.insert(name.to_owned());
        Ok(())
    }

    /// Adds the checksum and returns what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let digest = self.tar.get_ref().hash.clone().finalize();
        append_checksum(&mut self.tar, &digest)?;
        Ok(self.tar.into_inner()?.out)
    }
}

fn header(length: u64, modified: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(length);
    header.set_mtime(modified);
    header
}

fn append_checksum<W: Write>(tar: &mut Builder<W>, digest: &[u8]) -> io::Result<()> {
    let text: String = digest.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect();
    tar.append_data(&mut header(text.len() as u64, 0), CHECKSUM, text.as_bytes())
}

/// Returns the end of an archive whose other bytes have this digest.
fn trailer(digest: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::with_capacity(TRAILER));
    append_checksum(&mut tar, digest)?;
    tar.into_inner()
}

/// Hashes what is written.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hashes what is read up to the trailer, which it keeps.
struct Checked<R> {
    archive: R,
    /// Bytes before the trailer that have not been read.
    left: u64,
    hash: Sha256,
    trailer: Vec<u8>,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let hashed = self.left > 0;
        let read = if hashed { self.archive.read(&mut out[..room]) } else { self.archive.read(out) }?;
        let bytes = &out[..read];
        if hashed {
            self.hash.update(bytes);
            self.left -= read as u64;
        } else {
            self.trailer.extend(bytes.iter().take((TRAILER + 1).saturating_sub(self.trailer.len())));
        }
        Ok(read)
    }
}

/// Why an archive is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// It is not what was written, or is no backup at all.
    #[error("it is damaged or not complete, or is no backup: {0}")]
    Damaged(String),
    /// It was written by a newer release.
    #[error("{0}")]
    Newer(io::Error),
    /// What was read could not be kept.
    #[error(transparent)]
    NotKept(io::Error),
}

fn damaged(why: impl ToString) -> ArchiveError {
    ArchiveError::Damaged(why.to_string().replace(['\n', '\r'], " "))
}

/// Reads a whole archive of this length, and passes each file to `keep`: its name, its content, which `keep` reads to its
/// end, and when it was last modified (seconds since the Unix epoch). What it has kept is to be thrown away after an error: the checksum is
/// at the end. Nothing is unpacked, so the files together are no longer than the archive.
///
/// # Errors
/// Anything in it is not what a backup has.
pub(crate) fn read(
    archive: impl Read,
    length: u64,
    mut keep: impl FnMut(&str, &mut dyn Read, u64) -> io::Result<()>,
) -> Result<Manifest, ArchiveError> {
    let left = length.checked_sub(TRAILER as u64).ok_or_else(|| damaged("it is too short"))?;
    let mut checked = Checked { archive, left, hash: Sha256::new(), trailer: Vec::new() };
    let mut tar = Archive::new(&mut checked);
    let mut entries = tar.entries().map_err(damaged)?;
    let manifest = match entries.next() {
        Some(first) => manifest(first.map_err(damaged)?)?,
        None => return Err(damaged("it is empty")),
    };
    let mut is_complete = false;
    for entry in entries {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().ok().and_then(|path| path.to_str().map(str::to_owned));
        let name = name.ok_or_else(|| damaged("a name is not text"))?;
        if is_complete {
            return Err(damaged("something follows its end"));
        }
        if entry.header().entry_type() != EntryType::Regular {
            return Err(damaged(format!("{name:?} is not a plain file")));
        }
        if name == CHECKSUM {
            is_complete = true;
            continue;
        }
        if !is_expected(&name) {
            return Err(damaged(format!("{name:?} is not part of a backup")));
        }
        let (size, time) = (entry.size(), entry.header().mtime().map_err(damaged)?);
        let mut counted = Counted { entry: &mut entry, read: 0, failed: None };
        let kept = keep(&name, &mut counted, time);
        let Counted { read, failed, .. } = counted;
        if let Some(failed) = failed {
            return Err(damaged(failed));
        }
        kept.map_err(ArchiveError::NotKept)?;
        if read != size {
            return Err(damaged(format!("{name:?} is cut off")));
        }
    }
    io::copy(&mut checked, &mut io::sink()).map_err(damaged)?;
    let expected = trailer(&checked.hash.finalize()).map_err(damaged)?;
    if !is_complete || checked.left > 0 || checked.trailer != expected {
        return Err(damaged("its checksum is wrong"));
    }
    Ok(manifest)
}

/// Reads a whole archive of this length, and checks all of it.
///
/// # Errors
/// As of [`read`].
pub(crate) fn verify(archive: impl Read, length: u64) -> Result<Manifest, ArchiveError> {
    read(archive, length, |_, content, _| io::copy(content, &mut io::sink()).map(drop))
}

fn manifest(entry: tar::Entry<'_, impl Read>) -> Result<Manifest, ArchiveError> {
    if entry.path().map_err(damaged)?.to_str() != Some(MANIFEST) || entry.size() > MAX_MANIFEST {
        return Err(damaged(format!("it does not begin with {MANIFEST}")));
    }
    let manifest: Manifest = serde_json::from_reader(entry).map_err(damaged)?;
    format::check("it", manifest.format).map_err(ArchiveError::Newer)?;
    Ok(manifest)
}

/// Returns whether a backup may have a file of this name. No such name leads out of the folder that it is put in.
fn is_expected(name: &str) -> bool {
    if let Some(object) = name.strip_prefix(OBJECTS) {
        return object
            .split_once('/')
            .is_some_and(|(bucket, key)| check_bucket(bucket).is_ok() && check_key(key).is_ok());
    }
    name == QUEUES || (!name.contains('/') && name.starts_with(AUDIT.0) && name.ends_with(AUDIT.1))
}

/// Tells errors of the archive from those of where its files go.
struct Counted<'a, R> {
    entry: &'a mut R,
    read: u64,
    failed: Option<String>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.entry.read(out) {
            Ok(read) => {
                self.read += read as u64;
                Ok(read)
            }
            Err(error) => {
                self.failed = Some(error.to_string());
                Err(error)
            }
        }
    }
}

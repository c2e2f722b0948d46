//! The file of a history: a checksum, and the encoded history.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

use super::history::Kept;
use crate::{
    private_files::{create_private, create_private_folder},
    wire,
};

/// Largest file that is read, in bytes; about four times as many as a full history takes.
const MAX_BYTES: u64 = 8 << 20;
/// Length of the checksum before the history, in bytes.
const CHECKSUM: usize = 4;

/// Encodes a history.
pub(super) fn encode(kept: &Kept) -> io::Result<Vec<u8>> {
    let body = wire::to_bytes(kept).map_err(io::Error::other)?;
    Ok([&crc32fast::hash(&body).to_le_bytes()[..], &body].concat())
}

/// Decodes a history.
///
/// # Errors
/// The bytes are damaged, or of another version.
pub(super) fn decode(bytes: &[u8]) -> io::Result<Kept> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
    let (checksum, body) = bytes.split_at_checked(CHECKSUM).ok_or_else(damaged)?;
    if checksum != crc32fast::hash(body).to_le_bytes() {
        return Err(damaged());
    }
    wire::from_bytes(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads a history; `None` if there is no file.
///
/// # Errors
/// The file cannot be read, or is damaged, or of another version.
pub(super) fn read(path: &Path) -> io::Result<Option<Kept>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![];
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    decode(&bytes).map(Some)
}

/// Replaces the file by one with this history, so that a crash leaves either the old or the new one.
///
/// # Errors
/// The file or its folder cannot be written.
pub(super) fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let bytes = encode(kept)?;
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let unfinished = path.with_extension("new");
    let mut file = create_private(&unfinished)?;
    file.set_len(0)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

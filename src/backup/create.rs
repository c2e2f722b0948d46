//! Makes a backup of a data folder, also while the server runs.
//!
//! What is written first may be out of date when the rest is written. In this order, nothing of it is lost:
//!
//! 1. Dead letters, before the queues: one that is sent again in the meantime is in both.
//! 2. The queues, before the results: a job that is done in the meantime is in the queues and has a result. It is done
//!    again, and its result stays. A job that is accepted after that may have a pending result and be in no queue: a
//!    restore stores it as failed.
//! 3. Parts of galleries, and then the manifest if it is still the one from before: else more parts are read.
//! 4. The rest of the state bucket, and then the others: a result is stored after the image that belongs to it. Of the kept
//!    photos, only those of people in the galleries as they were copied: no removal would find another one.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read as _, Seek as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tempfile::NamedTempFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::archive::{AUDIT, ArchiveWriter, Manifest, OBJECTS, QUEUES};
use crate::{
    audit::lock_files,
    clock::now_ms,
    cloud::{
        CloudError,
        local::{Broker, UNFINISHED, format},
    },
    inference::gallery::{CopiedGalleries, keys::is_manifest},
    results::keys::DEAD_LETTERS,
    settings::Settings,
};

/// How often a gallery is read until it has not changed meanwhile. Only what is new of it is read again.
const MAX_ATTEMPTS: usize = 1000;

/// How long a backup waits for another one to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file could not be read, or the archive could not be written.
    #[error("{0}: {1}")]
    File(String, io::Error),
    /// The queues could not be read.
    #[error(transparent)]
    Queues(#[from] CloudError),
    /// A gallery could not be read between two changes.
    #[error("{0} keeps changing: try again when fewer people are added")]
    Busy(String),
}

/// Makes backups of a data folder whose queues this process has open. Cheap to clone.
#[derive(Clone)]
pub struct Backups {
    folder: PathBuf,
    /// The state bucket.
    state: String,
    queues: Arc<Broker>,
    /// One backup at a time.
    place: Arc<Semaphore>,
}

impl Backups {
    /// Prepares for backups of the data folder in `settings`, which has these queues.
    pub fn new(settings: &Settings, queues: Arc<Broker>) -> Self {
        let (folder, state) = (settings.local.data_dir.clone(), settings.store.state.clone());
        Self { folder, state, queues, place: Arc::new(Semaphore::new(1)) }
    }

    /// Takes the place of the one backup that may be under way; `None` if another one holds it for too long. The place
    /// of a client that has just gone is free soon.
    pub async fn begin(&self) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(PATIENCE, self.place.clone().acquire_owned()).await.ok()?.ok()
    }

    /// Writes a backup. Blocks. Returns its length in bytes.
    ///
    /// # Errors
    /// Something could not be read or written. What was written is not a backup.
    pub fn write(&self, out: impl Write) -> Result<u64, BackupError> {
        let manifest =
            Manifest { format: format::FORMAT, program: env!("CARGO_PKG_VERSION").into(), created_ms: now_ms() };
        let archive = ArchiveWriter::new(out, &manifest).map_err(|error| not_written(&error))?;
        let state = format!("{OBJECTS}{}/", self.state);
        let mut backup =
            Backup { archive, folder: &self.folder, state: state.clone(), galleries: CopiedGalleries::default() };

        backup.add_below(&format!("{state}{DEAD_LETTERS}"), &|_| true)?;
        self.add_queues(&mut backup)?;
        backup.add_audit_log()?;
        for manifest in backup.files_below(&state)?.into_iter().filter(|name| is_manifest(&name[state.len()..])) {
            backup.add_gallery(&manifest)?;
        }
        // A gallery that is new since is not part of it, so its parts alone are of no use.
        let galleries = std::mem::take(&mut backup.galleries);
        backup.add_below(&state, &|name| {
            let key = &name[state.len()..];
            !is_manifest(key) && galleries.includes(key)
        })?;
        backup.add_below(OBJECTS, &|name| !name.starts_with(&state))?;
        let length = backup.archive.length();
        backup.archive.finish().and_then(|mut out| out.flush()).map_err(|error| not_written(&error))?;
        Ok(length)
    }

    fn add_queues(&self, backup: &mut Backup<'_, impl Write>) -> Result<(), BackupError> {
        // It is removed by the next start of a server if this process is killed.
        let copy = NamedTempFile::new_in(self.folder.join(UNFINISHED));
        let mut copy = copy.map_err(|error| BackupError::File(self.folder.display().to_string(), error))?;
        self.queues.copy_to(copy.path())?;
        backup.add_open(QUEUES, copy.as_file_mut())
    }
}

fn not_written(error: &io::Error) -> BackupError {
    BackupError::File("the backup".into(), io::Error::new(error.kind(), error.to_string()))
}

/// A backup that is being written.
struct Backup<'a, W: Write> {
    archive: ArchiveWriter<W>,
    /// The data folder.
    folder: &'a Path,
    /// Prefix of the names of the files in the state bucket.
    state: String,
    /// The galleries that were added.
    galleries: CopiedGalleries,
}

impl<W: Write> Backup<'_, W> {
    /// Adds the files below `prefix`, a folder, that `which` selects and that have not been added yet.
    fn add_below(&mut self, prefix: &str, which: &dyn Fn(&str) -> bool) -> Result<(), BackupError> {
        for name in self.files_below(prefix)? {
            if which(&name) && !self.archive.contains(&name) {
                self.add(&name)?;
            }
        }
        Ok(())
    }

    /// Returns the names of the files below `prefix`, a folder that need not exist, in order.
    fn files_below(&self, prefix: &str) -> Result<Vec<String>, BackupError> {
        let (mut files, mut folders) = (Vec::new(), vec![prefix.trim_end_matches('/').to_owned()]);
        while let Some(folder) = folders.pop() {
            let path = self.folder.join(&folder);
            let fail = |error| BackupError::File(path.display().to_string(), error);
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue, // empty folders are removed
                entries => entries.map_err(fail)?,
            };
            for entry in entries {
                let entry = entry.map_err(fail)?;
                let Ok(name) = entry.file_name().into_string() else { continue }; // no object has such a key
                let name = format!("{folder}/{name}");
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(name),
                    Ok(kind) if kind.is_file() => files.push(name),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(fail(error)),
                }
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// Adds a file, unless it has been deleted. A file that is replaced meanwhile is either the old or the new one.
    fn add(&mut self, name: &str) -> Result<(), BackupError> {
        match File::open(self.folder.join(name)) {
            Ok(mut file) if name.strip_prefix(&self.state).is_some_and(CopiedGalleries::is_part) => {
                let fail = |error| BackupError::File(name.to_owned(), error);
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).and_then(|_| file.rewind()).map_err(fail)?;
                self.galleries.add_part(&name[self.state.len()..], &bytes);
                self.add_open(name, &mut file)
            }
            Ok(mut file) => self.add_open(name, &mut file),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(BackupError::File(name.to_owned(), error)),
        }
    }

    /// Adds a file with its present length.
    fn add_open(&mut self, name: &str, file: &mut File) -> Result<(), BackupError> {
        let added = file.metadata().and_then(|meta| {
            let modified = meta.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            self.archive.add(name, file, meta.len(), modified)
        });
        added.map_err(|error| BackupError::File(name.to_owned(), error))
    }

    /// Adds a gallery with all parts of its manifest: no part of a manifest is deleted before the next manifest.
    fn add_gallery(&mut self, manifest: &str) -> Result<(), BackupError> {
        let path = self.folder.join(manifest);
        let read = || match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BackupError::File(manifest.to_owned(), error)),
        };
        let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut before = read()?;
        for _ in 0..MAX_ATTEMPTS {
            self.add_below(folder, &|name| name != manifest)?;
            let after = read()?;
            if let Some(bytes) = after.as_ref().filter(|_| after == before) {
                self.galleries.add_manifest(&manifest[self.state.len()..], bytes);
                let added = self.archive.add(manifest, &**bytes, bytes.len() as u64, now_ms() / 1000);
                return added.map_err(|error| BackupError::File(manifest.to_owned(), error));
            }
            if after.is_none() {
                return Ok(());
            }
            before = after;
        }
        Err(BackupError::Busy(manifest.to_owned()))
    }

    /// Adds the audit log as it is now: lines may be appended, and files renamed, while it is read.
    fn add_audit_log(&mut self) -> Result<(), BackupError> {
        let fail = |error| BackupError::File("the audit log".into(), error);
        let mut files = Vec::new();
        {
            let _lock = lock_files(self.folder).map_err(fail)?;
            for entry in fs::read_dir(self.folder).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                if name.starts_with(AUDIT.0) && name.ends_with(AUDIT.1) {
                    let file = File::open(entry.path()).map_err(fail)?;
                    let meta = file.metadata().map_err(fail)?;
                    files.push((name, file, meta));
                }
            }
        }
        for (name, file, meta) in files {
            let modified = meta.modified().map_err(fail)?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            self.archive.add(&name, file, meta.len(), modified).map_err(|error| BackupError::File(name, error))?;
        }
        Ok(())
    }
}

//! The index of a large gallery, in a file of this machine.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{manifest::PartId, part::Part, search::owner_named};
use crate::{
    inference::embeddings::index::{Builder, Index, IndexError},
    private_files::create_private_folder,
    wire::{self, Wire},
};

/// Extension of index files.
const EXTENSION: &str = "index";
/// Prefix of files that will become an index.
const UNFINISHED: &str = "unfinished-";
/// Where a machine keeps its indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexPlace {
    /// In files of this folder, which all processes of the machine share.
    Shared(PathBuf),
    /// In files of this folder without a name, each for one process. They vanish with it.
    Unnamed(PathBuf),
}

/// What an index contains.
#[derive(Serialize, Deserialize)]
struct Contents {
    /// Version of the gallery.
    version: u64,
    /// The parts and how many of the people of each are in the index, in the order of the owners.
    parts: Vec<(PartId, u32)>,
}

impl Wire for Contents {}

/// What is sent to whoever builds an index.
pub(super) enum Content {
    /// A part with its people.
    Part(PartId, Part),
    /// There are no more. Without this, the index is not completed.
    End,
}

/// An open index and the parts in it.
pub(super) struct IndexedParts {
    pub index: Arc<Index>,
    /// Version of the gallery.
    pub version: u64,
    /// The owners of each part.
    pub parts: HashMap<PartId, Range<u32>>,
}

impl IndexedParts {
    fn of(index: Index) -> Result<Self, IndexError> {
        let contents = wire::from_bytes::<Contents>(index.description());
        let Contents { version, parts } = contents.map_err(|error| IndexError::Invalid(error.to_string()))?;
        let mut first = 0_u32;
        let mut ranges = HashMap::new();
        for (part, owners) in parts {
            let end = first.saturating_add(owners);
            ranges.insert(part, first..end);
            first = end;
        }
        if first != index.owners() {
            return Err(IndexError::Invalid("its contents do not match its description".into()));
        }
        Ok(Self { index: Arc::new(index), version, parts: ranges })
    }
}

/// The index files of one gallery. All calls block.
#[derive(Clone, Debug)]
pub(super) struct IndexFiles {
    place: IndexPlace,
    gallery: String,
}

impl IndexFiles {
    pub fn new(place: IndexPlace, gallery: String) -> Self {
        Self { place, gallery }
    }

    /// Opens the index of the highest version of embeddings of this length; `None` if there is none that can be used.
    pub fn newest(&self, dimension: usize) -> Option<IndexedParts> {
        let mut files = self.files().ok()?;
        files.sort_unstable_by_key(|(version, _)| std::cmp::Reverse(*version));
        files.iter().find_map(|(_, path)| match Index::open(path).and_then(IndexedParts::of) {
            Ok(index) => Some(index).filter(|index| index.index.dimension() == dimension),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the index of a gallery is not used");
                None
            }
        })
    }

    /// Builds an index of a version of the gallery, whose parts arrive in order. While another process builds one,
    /// waits, and returns its index if it is newer than `known`.
    ///
    /// # Errors
    /// The file cannot be written, or there are no embeddings.
    pub fn build(
        &self,
        version: u64,
        dimension: usize,
        known: Option<u64>,
        content: mpsc::Receiver<Content>,
    ) -> Result<IndexedParts, IndexError> {
        let folder = match &self.place {
            IndexPlace::Unnamed(folder) => return fill(tempfile::tempfile_in(folder)?, version, dimension, content),
            IndexPlace::Shared(folder) => folder,
        };
        create_private_folder(folder)?;
        let lock = folder.join(format!("{}.lock", self.gallery));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock)?;
        lock.lock()?; // released when the file is closed
        if let Some(newer) = self.newest(dimension).filter(|index| known.is_none_or(|known| index.version > known)) {
            return Ok(newer);
        }
        // Private to the user, and deleted if it does not become the index.
        self.remove_unfinished(folder)?;
        let prefix = self.unfinished();
        let unfinished = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
        let index = fill(unfinished.reopen()?, version, dimension, content)?;
        unfinished.persist(folder.join(self.file_name(version))).map_err(|error| error.error)?;
        for (_, path) in self.files()?.into_iter().filter(|(other, _)| *other != version) {
            remove(&path)?;
        }
        Ok(index)
    }

    /// Overwrites a person with zeros in every index, and deletes those that cannot be opened.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn erase(&self, name: &str) -> Result<(), IndexError> {
        for (_, path) in self.files()? {
            match Index::open(&path) {
                Ok(index) => index.erase(&owner_named(&index, name).into_iter().collect())?,
                Err(_) => remove(&path)?,
            }
        }
        Ok(())
    }

    /// Deletes every index. Processes that have it open keep it until they replace it.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn delete(&self) -> Result<(), IndexError> {
        self.files()?.iter().try_for_each(|(_, path)| Ok(remove(path)?))
    }

    /// Deletes the indexes of versions before this one.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn delete_older(&self, version: u64) -> Result<(), IndexError> {
        let mut older = self.files()?.into_iter().filter(|(other, _)| *other < version);
        older.try_for_each(|(_, path)| Ok(remove(&path)?))
    }

    /// Deletes the indexes of versions after this one.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub fn delete_newer(&self, version: u64) -> Result<(), IndexError> {
        let mut newer = self.files()?.into_iter().filter(|(other, _)| *other > version);
        newer.try_for_each(|(_, path)| Ok(remove(&path)?))
    }

    fn file_name(&self, version: u64) -> String {
        format!("{version:020}-{}.{EXTENSION}", self.gallery)
    }

    /// Returns the version and the path of each index.
    fn files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let IndexPlace::Shared(folder) = &self.place else { return Ok(Vec::new()) };
        let ending = format!("-{}.{EXTENSION}", self.gallery);
        let entries = match folder.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let version = name.strip_suffix(&ending).filter(|version| version.len() == 20);
            files.extend(version.and_then(|version| version.parse().ok()).map(|version| (version, path.clone())));
        }
        Ok(files)
    }

    /// Returns the prefix of the unfinished files of this gallery.
    fn unfinished(&self) -> String {
        format!("{UNFINISHED}{}-", self.gallery)
    }

    /// Deletes what killed processes left. The caller holds the lock.
    fn remove_unfinished(&self, folder: &Path) -> io::Result<()> {
        for entry in folder.read_dir()? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&self.unfinished()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Deletes a file, which another process may have deleted.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn fill(
    file: File,
    version: u64,
    dimension: usize,
    mut content: mpsc::Receiver<Content>,
) -> Result<IndexedParts, IndexError> {
    let mut builder = Builder::new(file, dimension)?;
    let mut parts = Vec::new();
    loop {
        match content.blocking_recv() {
            Some(Content::Part(id, part)) => {
                let mut owners = 0;
                // The others are searched without an index.
                for person in part.people.iter().filter(|person| person.rejected.is_empty()) {
                    builder.add(&person.name, &person.embeddings.concat())?;
                    owners += 1;
                }
                parts.push((id, owners));
            }
            Some(Content::End) => break,
            None => return Err(IndexError::Invalid("the gallery could not be read whole".into())),
        }
    }
    let description =
        wire::to_bytes(&Contents { version, parts }).map_err(|error| IndexError::Invalid(error.to_string()))?;
    IndexedParts::of(builder.finish(&description, &mut rand::rng())?)
}

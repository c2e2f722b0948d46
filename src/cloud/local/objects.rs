//! Files as objects: `objects/BUCKET/KEY` below the data folder.
//!
//! Writes are atomic and durable, conditional writes are safe between processes, keys cannot leave the folder, and only
//! the owner can read: what is stored is personal data.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::UNIX_EPOCH,
};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::format;
#[cfg(target_os = "linux")]
use super::unnamed_file;
use crate::{
    cloud::{
        CloudError, CloudResult, ETag, NewObject, Object, ObjectInfo, ObjectStore, Precondition,
        object_key::{check_bucket, check_key, check_prefix},
    },
    private_files::{check_private_folder, create_private, create_private_folder},
};

/// Folder, in the data folder, of files that have no key yet. The next start of a server removes what is left there.
pub(crate) const UNFINISHED: &str = "unfinished";
/// Number of lock files. With this many, writers of different keys rarely share one.
const LOCKS: u8 = 64;

/// Files as objects. Cheap to clone. Several processes may use one folder.
#[derive(Clone)]
pub struct LocalObjects {
    root: Arc<Path>,
    #[cfg(target_os = "linux")]
    group: Arc<super::group_sync::GroupSync>,
}

impl LocalObjects {
    /// Opens the store in `data_dir`. Creates what is missing, readable by its owner only.
    ///
    /// # Errors
    /// The folder cannot be created, other users can read or write it, or a newer release has written it; the message
    /// has the remedy.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let root = data_dir.join("objects");
        create_private_folder(data_dir)?;
        check_private_folder(data_dir)?;
        format::check_folder(data_dir)?;
        for folder in [root.clone(), data_dir.join(UNFINISHED), data_dir.join("locks")] {
            create_private_folder(&folder)?;
        }
        Ok(Self {
            #[cfg(target_os = "linux")]
            group: Arc::new(super::group_sync::GroupSync::new(&root)?),
            root: root.into(),
        })
    }

    /// Removes what interrupted writes have left behind. Must not be called while another process uses the folder.
    pub(super) fn remove_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.beside(UNFINISHED))? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Deletes an object, unless it has been put again since it was listed as `listed`. Returns whether it was deleted.
    ///
    /// Puts that are not buffered wait meanwhile, so that none is lost.
    ///
    /// # Errors
    /// Same as [`ObjectStore::delete`].
    pub async fn delete_unmodified(&self, bucket: &str, listed: &ObjectInfo) -> CloudResult<bool> {
        let (path, bucket) = (self.path(bucket, &listed.key)?, self.bucket(bucket)?);
        let expected = (listed.size, listed.modified_ms);
        self.blocking(move |this| {
            let _lock = this.lock(&path).map_err(|e| on_path(&path, &e))?;
            match fs::metadata(&path) {
                Ok(meta) if (meta.len(), modified_ms(&meta)) == expected => {
                    this.delete_now(&bucket, &path).map(|()| true)
                }
                Ok(_) => Ok(false),
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
                Err(e) => Err(on_path(&path, &e)),
            }
        })
        .await
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
    }

    fn bucket(&self, bucket: &str) -> CloudResult<PathBuf> {
        check_bucket(bucket)?;
        Ok(self.root.join(bucket))
    }

    fn path(&self, bucket: &str, key: &str) -> CloudResult<PathBuf> {
        check_key(key)?;
        Ok(self.bucket(bucket)?.join(key))
    }

    /// Runs `work` on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> CloudResult<T> + Send + 'static,
    ) -> CloudResult<T> {
        let this = self.clone();
        let result = tokio::task::spawn_blocking(move || work(&this)).await;
        result.unwrap_or_else(|e| Err(CloudError::Unavailable(format!("store: {e}"))))
    }

    fn put_now(&self, path: &Path, bytes: &[u8], when: &Precondition) -> CloudResult<()> {
        let fail = |e: io::Error| on_path(path, &e);
        let file = self.unfinished(bytes).map_err(fail)?;
        file.as_file().sync_data().map_err(fail)?;
        // The folders above have new entries if folders are created.
        let created: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
        self.put_locked(file, path, when)?;
        let changed = path.parent().into_iter().chain(created.into_iter().filter_map(Path::parent));
        changed.into_iter().try_for_each(|folder| File::open(folder)?.sync_all()).map_err(fail)
    }

    /// Moves a finished file to its place if the condition holds, while no other writer of the key does.
    fn put_locked(&self, file: NamedTempFile, path: &Path, when: &Precondition) -> CloudResult<()> {
        let fail = |e: io::Error| on_path(path, &e);
        let _lock = self.lock(path).map_err(fail)?;
        if let Precondition::Match(expected) = when {
            match fs::read(path) {
                Ok(present) if etag(&present) == *expected => {}
                Ok(_) => return Err(CloudError::Conflict(format!("{} has changed", path.display()))),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    return Err(CloudError::Conflict(format!("{} is gone", path.display())));
                }
                Err(e) => return Err(fail(e)),
            }
        }
        Self::persist(file, path, *when == Precondition::Absent).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists if path.exists() => CloudError::Conflict(format!("{} exists", path.display())),
            _ => fail(e),
        })
    }

    /// Writes an object that a later [`ObjectStore::flush`] makes durable.
    #[cfg(target_os = "linux")]
    fn put_buffered_now(&self, path: &Path, bytes: &[u8], when: &Precondition) -> CloudResult<()> {
        let fail = |e: io::Error| on_path(path, &e);
        if !matches!(when, Precondition::Match(_)) {
            // No lock is needed: this replaces nothing. It is the first result of a job, which is nearly always the
            // only one.
            match unnamed_file::create(path, bytes) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists && *when == Precondition::Absent && path.is_file() => {
                    return Err(CloudError::Conflict(format!("{} exists", path.display())));
                }
                Err(_) => {} // there is one, or the file system has no unnamed files
            }
        }
        let file = self.unfinished(bytes).map_err(fail)?;
        match when {
            // A put that requires the absence of an object checks it in the step that moves the file.
            Precondition::Always => Self::persist(file, path, false).map_err(fail),
            _ => self.put_locked(file, path, when),
        }
    }

    /// Creates a file with these bytes that has no key yet.
    fn unfinished(&self, bytes: &[u8]) -> io::Result<NamedTempFile> {
        let mut file = NamedTempFile::new_in(self.beside(UNFINISHED))?;
        file.write_all(bytes)?;
        Ok(file)
    }

    /// Moves a finished file to its place in one step. Creates the folder if it is missing, even if a delete removes
    /// the empty folder in between. If `absent`, a file in that place is an error.
    fn persist(mut file: NamedTempFile, path: &Path, absent: bool) -> io::Result<()> {
        let Some(folder) = path.parent() else { return Err(ErrorKind::InvalidInput.into()) };
        for _ in 0..10 {
            let moved = if absent { file.persist_noclobber(path) } else { file.persist(path) };
            match moved {
                Ok(_) => return Ok(()),
                Err(e) if e.error.kind() == ErrorKind::NotFound => {
                    create_private_folder(folder)?;
                    file = e.file;
                }
                Err(e) => return Err(e.error),
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Locks the key against other writers, in this and other processes, until the returned file is dropped.
    fn lock(&self, path: &Path) -> io::Result<File> {
        let stripe = Sha256::digest(path.as_os_str().as_encoded_bytes())[0] % LOCKS;
        let file = create_private(&self.beside("locks").join(format!("{stripe:02}")))?;
        file.lock()?;
        Ok(file)
    }

    fn list_now(&self, bucket: &Path, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        let mut out = Vec::new();
        // Every match is below the folder that the prefix names.
        let start = prefix.rsplit_once('/').map_or_else(|| bucket.to_owned(), |(folder, _)| bucket.join(folder));
        let mut folders = vec![start];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Err(e) => return Err(on_path(&folder, &e)),
            };
            for entry in entries {
                let path = entry.map_err(|e| on_path(&folder, &e))?.path();
                match fs::metadata(&path) {
                    Ok(meta) if meta.is_dir() => folders.push(path),
                    Ok(meta) => {
                        let key = path.strip_prefix(bucket).ok().and_then(Path::to_str).map(str::to_owned);
                        if let Some(key) = key.filter(|key| key.starts_with(prefix)) {
                            out.push(ObjectInfo { key, size: meta.len(), modified_ms: modified_ms(&meta) });
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::NotFound => {} // deleted since
                    Err(e) => return Err(on_path(&path, &e)),
                }
            }
        }
        out.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(out)
    }

    fn delete_now(&self, bucket: &Path, path: &Path) -> CloudResult<()> {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory) => {
                return Ok(());
            }
            Err(e) => return Err(on_path(path, &e)),
        }
        // Removes folders that are empty now; the call fails for the first one that is not.
        for folder in path.ancestors().skip(1).take_while(|a| *a != bucket) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        let nearest = path.ancestors().skip(1).find(|a| a.exists()).unwrap_or(bucket);
        File::open(nearest).and_then(|folder| folder.sync_all()).map_err(|e| on_path(nearest, &e))
    }
}

#[async_trait]
impl ObjectStore for LocalObjects {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        let path = self.path(bucket, key)?;
        self.blocking(move |this| {
            this.put_now(&path, &bytes, &when)?;
            Ok(etag(&bytes))
        })
        .await
    }

    #[cfg(target_os = "linux")]
    async fn put_buffered(&self, objects: Vec<NewObject>) -> CloudResult<()> {
        self.blocking(move |this| {
            objects.into_iter().try_for_each(|NewObject { bucket, key, bytes, when }| {
                this.put_buffered_now(&this.path(&bucket, &key)?, &bytes, &when)
            })
        })
        .await
    }

    #[cfg(target_os = "linux")]
    async fn flush(&self) -> CloudResult<()> {
        self.group.sync().await.map_err(|e| CloudError::Unavailable(format!("store: {e}")))
    }

    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        let path = self.path(bucket, key)?;
        self.blocking(move |_| {
            let bytes = Bytes::from(fs::read(&path).map_err(|e| on_path(&path, &e))?);
            Ok(Object { etag: etag(&bytes), bytes })
        })
        .await
    }

    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        let object = self.get(bucket, key).await?;
        Ok(Some(object).filter(|object| object.etag != *etag))
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        let (bucket, prefix) = (self.bucket(bucket)?, prefix.to_owned());
        check_prefix(&prefix)?;
        self.blocking(move |this| this.list_now(&bucket, prefix.trim_start_matches('/'))).await
    }

    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        let (path, bucket) = (self.path(bucket, key)?, self.bucket(bucket)?);
        self.blocking(move |this| this.delete_now(&bucket, &path)).await
    }

    async fn check(&self, bucket: &str) -> CloudResult<()> {
        let bucket = self.bucket(bucket)?;
        self.blocking(move |_| match fs::read_dir(&bucket).and_then(|mut entries| entries.next().transpose()) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(on_path(&bucket, &e)),
            _ => Ok(()),
        })
        .await
    }
}

/// Returns when a file was last written, in milliseconds since the Unix epoch.
fn modified_ms(meta: &fs::Metadata) -> u64 {
    let since = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn etag(bytes: &[u8]) -> ETag {
    ETag(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn on_path(path: &Path, error: &io::Error) -> CloudError {
    match error.kind() {
        ErrorKind::NotFound => CloudError::NotFound(path.display().to_string()),
        // A folder in place of a file or the other way round: `a` and `a/b` cannot both be files.
        ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists
        | ErrorKind::DirectoryNotEmpty => {
            CloudError::Invalid(format!("{}: one key would be a folder in another's path", path.display()))
        }
        ErrorKind::PermissionDenied => CloudError::Denied(format!("{}: {error}", path.display())),
        _ => CloudError::Unavailable(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_that_was_put_again_since_it_was_listed_is_not_deleted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = LocalObjects::open(folder.path()).expect("a store");
        store.put("b", "a/x", "photo".into(), Precondition::Always).await.expect("put");
        let [listed] = &store.list("b", "").await.expect("listed")[..] else { panic!("one") };

        // As a put of the same bytes at another time.
        let file = File::options().write(true).open(folder.path().join("objects/b/a/x")).expect("a file");
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1)).expect("set");
        assert_eq!(store.delete_unmodified("b", listed).await, Ok(false));
        let [listed] = &store.list("b", "").await.expect("listed")[..] else { panic!("it is still there") };
        assert_eq!(store.delete_unmodified("b", listed).await, Ok(true));
        assert_eq!(store.list("b", "").await, Ok(Vec::new()));
        assert_eq!(store.delete_unmodified("b", listed).await, Ok(false), "there is none");
    }
}

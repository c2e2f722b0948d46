//! Restores a backup into a data folder that does not exist yet, or is empty.

use std::{
    fs::{self, File, FileTimes, OpenOptions, Permissions},
    io::{self, ErrorKind, Read},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::archive::{Manifest, read};
use crate::{cloud::local::format, private_files::create_private_folder};

/// A backup that was read and checked, in a temporary folder beside the data folder. Dropping it removes that folder.
pub struct Restored {
    /// What the backup is.
    pub manifest: Manifest,
    unpacked: TempDir,
    folder: PathBuf,
}

/// Reads a backup and checks all of it, to be restored into `folder`.
///
/// # Errors
/// The folder is not empty; the backup is damaged, not complete, or of a newer release; or it cannot be written beside
/// the folder. Nothing is left then.
pub fn restore(backup: &Path, folder: &Path) -> anyhow::Result<Restored> {
    let folder = std::path::absolute(folder)?;
    check_empty(&folder)?;
    let archive = File::open(backup).with_context(|| format!("cannot read {}", backup.display()))?;
    let length = archive.metadata().with_context(|| format!("cannot read {}", backup.display()))?.len();
    let parent = folder.parent().context("the data folder cannot be the root of the file system")?;
    create_private_folder(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let private = Permissions::from_mode(0o700);
    let unpacked = tempfile::Builder::new().prefix(".rollcall-restore-").permissions(private).tempdir_in(parent);
    let unpacked = unpacked.with_context(|| format!("cannot write in {}", parent.display()))?;
    let kept = read(archive, length, |name, content, modified| keep(&unpacked.path().join(name), content, modified));
    let manifest = kept.with_context(|| format!("cannot restore {}", backup.display()))?;
    format::mark_folder(unpacked.path())?;
    Ok(Restored { manifest, unpacked, folder })
}

impl Restored {
    /// Returns the temporary folder, which is a data folder that no process uses.
    pub fn path(&self) -> &Path {
        self.unpacked.path()
    }

    /// Makes everything durable, and moves it to its place in one step.
    ///
    /// # Errors
    /// The folder is not empty any more, or is a mount point. Any error of the file system.
    pub fn finish(self) -> anyhow::Result<()> {
        let Self { unpacked, folder, .. } = self;
        sync_all(unpacked.path()).context("the restored files may not be on the disk")?;
        fs::rename(unpacked.path(), &folder).map_err(|error| {
            let shown = folder.display();
            match error.kind() {
                ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => not_empty(&folder),
                ErrorKind::ResourceBusy | ErrorKind::CrossesDevices => anyhow::anyhow!(
                    "{shown} is a mount point: set local.data_dir to a folder in it that does not exist"
                ),
                _ => anyhow::Error::new(error).context(format!("cannot create {shown}")),
            }
        })?;
        let _ = unpacked.keep(); // it has another name now
        if let Some(parent) = folder.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }
}

fn check_empty(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
        Ok(mut entries) => entries.next().map_or(Ok(()), |_| Err(not_empty(folder))),
    }
}

fn not_empty(folder: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is not empty: a backup is restored into a folder that is empty or does not exist; move this one away, or \
         set local.data_dir to another",
        folder.display()
    )
}

/// Writes a file that does not exist, with the folders that it is in.
fn keep(path: &Path, content: &mut dyn Read, modified: u64) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(content, &mut file)?;
    // What is stored is judged by its age in some places. A time that cannot be represented is not one of a backup.
    match UNIX_EPOCH.checked_add(Duration::from_secs(modified)) {
        Some(time) => file.set_times(FileTimes::new().set_modified(time)),
        None => Err(ErrorKind::InvalidData.into()),
    }
}

/// Makes everything in a folder durable.
#[cfg(target_os = "linux")]
fn sync_all(folder: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(folder)?)?)
}

/// Makes everything in a folder durable.
#[cfg(not(target_os = "linux"))]
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { sync_all(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(folder)?.sync_all()
}

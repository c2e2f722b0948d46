//! Folders and files that only their owner can read: what is stored is personal data, or reveals something about
//! people.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use nix::unistd::{User, geteuid};

/// Creates a folder, and those above it, unless it exists.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes sure that a folder is this user's, and that no other user can read or write it. One that is empty, and that only
/// this user could write, is made private: it was made for this purpose.
///
/// # Errors
/// `PermissionDenied` with the remedy if others can read or write what is in it. They may have done so already, so it is
/// not made private silently. Any error of the file system.
pub(crate) fn check_private_folder(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    let (mode, owner, user) = (metadata.permissions().mode() & 0o777, metadata.uid(), geteuid());
    if owner != user.as_raw() {
        // Also to root: what root writes there, its owner could not read.
        let name = User::from_uid(owner.into()).ok().flatten().map_or(owner.to_string(), |user| user.name);
        let remedy = format!("run this as that user (`sudo -u {name} rollcall …`), or use another folder");
        let error = format!("{} belongs to user {name}, and contains photos: {remedy}", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, error));
    }
    if mode & 0o077 == 0 {
        return Ok(());
    }
    if mode & 0o022 == 0 && std::fs::read_dir(path)?.next().is_none() {
        return std::fs::set_permissions(path, Permissions::from_mode(0o700));
    }
    let problem = format!("is open to other users (mode {mode:03o})");
    let shown = path.display();
    let remedy = format!("make sure that nobody else needs it and run `chmod 700 {shown}`, or use another folder");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{shown} {problem}, and contains photos: {remedy}")))
}

/// Opens a file for writing, or creates it. One that others can read is made private.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

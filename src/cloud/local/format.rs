//! The format of a data folder, so that a program refuses a folder that it would misunderstand.
//!
//! 1: a folder without the file `format`. 2: one with it. Every format up to [`FORMAT`] can be read. It is raised when
//! earlier releases could not read, or would damage, what this one writes.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::Path,
};

use tempfile::NamedTempFile;

/// The format that this program writes.
pub(crate) const FORMAT: u32 = 2;
/// Name of the file in the data folder. It contains the format as a decimal number.
pub(crate) const FILE: &str = "format";

/// Checks that this program knows a format. `what` was written in it.
///
/// # Errors
/// `Unsupported`, with what to do, if it does not.
pub(crate) fn check(what: &str, format: u32) -> io::Result<()> {
    if format <= FORMAT {
        return Ok(());
    }
    let newer =
        format!("{what} was written by a newer Rollcall (format {format}); this one knows up to {FORMAT}: upgrade");
    Err(io::Error::new(ErrorKind::Unsupported, newer))
}

/// Checks that this program knows the format of a data folder, which may be missing.
///
/// # Errors
/// `Unsupported`, with what to do, if it does not. Any error of the file system.
pub(crate) fn check_folder(folder: &Path) -> io::Result<()> {
    let path = folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text?,
    };
    let format = text.trim().parse().map_err(|_| {
        let shown = path.display();
        io::Error::new(
            ErrorKind::InvalidData,
            format!("{shown} is damaged: it must contain a number, such as {FORMAT}"),
        )
    })?;
    check("this folder", format)
}

/// Marks a data folder, which no other process is changing, as one of the format that this program writes. Durable on
/// return.
pub(crate) fn mark_folder(folder: &Path) -> io::Result<()> {
    let path = folder.join(FILE);
    let text = format!("{FORMAT}\n");
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(());
    }
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::local::{LocalObjects, repair_queues};

    #[test]
    fn a_folder_of_a_newer_release_is_refused_and_not_changed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let is_open = || LocalObjects::open(folder.path()).map(drop);
        is_open().expect("a folder without a format");
        mark_folder(folder.path()).expect("marked");
        is_open().expect("a folder of this release");

        fs::write(folder.path().join(FILE), "3\n").expect("written");
        let expected = "this folder was written by a newer Rollcall (format 3); this one knows up to 2: upgrade";
        assert_eq!(is_open().expect_err("newer").to_string(), expected);
        assert_eq!(repair_queues(folder.path()).expect_err("newer").to_string(), expected);
        assert_eq!(fs::read(folder.path().join(FILE)).expect("read"), b"3\n");

        fs::write(folder.path().join(FILE), "two").expect("written");
        assert_eq!(is_open().expect_err("damaged").kind(), ErrorKind::InvalidData);
    }
}

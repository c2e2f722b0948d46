//! Tells a file whose contents are wrong from one that cannot be read or written now.
//!
//! The database notices damage wherever it comes across it: it returns an error or panics.

use std::{
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// Its contents are wrong. Trying again does not help.
    #[error("{0}")]
    Damaged(String),
    /// It cannot be read or written now, for example because the disk is full.
    #[error("{0}")]
    Failed(String),
}

impl FileError {
    fn of(error: &redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => Self::Damaged(one_line(error)),
            redb::Error::Io(io) if matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Self::Damaged(one_line(error))
            }
            redb::Error::DatabaseAlreadyOpen => Self::Failed(
                "it is in use: another rollcall is using this folder; stop it or set local.data_dir".into(),
            ),
            _ => Self::Failed(one_line(error)),
        }
    }
}

/// Uses the database. A panic in it counts as damage.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, FileError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| FileError::of(&error)),
        Err(_) => Err(FileError::Damaged("the database cannot make sense of it".into())),
    }
}

fn one_line(error: &redb::Error) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}

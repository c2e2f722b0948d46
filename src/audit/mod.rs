//! The audit log: who has changed, deleted or looked at what is stored of people, when, from where, and with which
//! outcome.
//!
//! A line contains no name of a person and no file name: people are pseudonyms, jobs are ids. On one machine, the log is
//! a file in the data folder; on AWS, it is objects in the state bucket. See `docs/adr/0027-audit-log.md`.

mod entry;
mod file;
mod lines;
mod log;
mod objects;

use std::sync::Arc;

pub use entry::{Actor, Entry, Outcome, time};
pub(crate) use file::lock_files;
pub use lines::Lines;
pub use log::{AuditLog, NotAudited, audited, user};

use crate::{
    cloud::ObjectStore,
    settings::{CloudKind, Settings},
};

/// Returns the lines of the configured cloud.
pub fn lines(settings: &Settings, store: Arc<dyn ObjectStore>) -> Arc<dyn Lines> {
    match settings.cloud.kind {
        CloudKind::Local => Arc::new(file::AuditFile::new(&settings.local.data_dir)),
        CloudKind::Aws => Arc::new(objects::AuditObjects::new(store, settings.store.state.clone())),
    }
}

/// Returns lines in the state bucket, for tests.
#[cfg(test)]
pub fn in_objects(store: Arc<dyn ObjectStore>, bucket: &str) -> Arc<dyn Lines> {
    Arc::new(objects::AuditObjects::new(store, bucket.to_owned()))
}

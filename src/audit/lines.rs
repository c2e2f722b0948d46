//! Where the lines of the audit log are.

use std::time::Duration;

use async_trait::async_trait;

use super::entry::time;
use crate::cloud::CloudResult;

/// Where the lines are.
#[async_trait]
pub trait Lines: Send + Sync + 'static {
    /// Appends lines (each with its line feed), which are durable on return. Several processes may do so.
    ///
    /// # Errors
    /// Some of the lines may have been written.
    async fn append(&self, lines: String, now_ms: u64) -> CloudResult<()>;

    /// Returns the lines since a time, and perhaps earlier ones, the oldest first.
    async fn since(&self, since_ms: u64) -> CloudResult<Vec<String>>;

    /// Deletes lines that are older than `before_ms`, by the day.
    async fn expire(&self, before_ms: u64) -> CloudResult<()>;

    /// Returns how long lines wait for others if nobody waits for them: a call may cost something.
    fn linger(&self) -> Duration;
}

/// Returns the day (UTC) of a time, as `2026-11-30`.
pub(super) fn day(ms: u64) -> String {
    time(ms).chars().take_while(|c| *c != 'T').collect()
}

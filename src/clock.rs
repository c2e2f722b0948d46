//! Reads the system clock: the one place that does, besides log lines and measurements of a command.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since the Unix epoch; 0 for a clock set before it.
#[expect(clippy::disallowed_methods, reason = "the one reader of the system clock; everything else is told the time")]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

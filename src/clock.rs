//! The only reader of the system clock, apart from logging and the measurements of commands.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since the Unix epoch; 0 if the clock is set before it.
#[expect(clippy::disallowed_methods, reason = "the only reader of the system clock")]
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

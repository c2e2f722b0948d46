//! Units that bounds are written in.

use std::time::Duration;

/// Bytes.
pub(super) const MIB: u64 = 1 << 20;
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

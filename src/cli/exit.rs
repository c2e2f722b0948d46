//! Exit codes of the command line.

/// A wrong command line or configuration (`EX_CONFIG` of sysexits.h).
pub(super) const EXIT_CONFIG: u8 = 78;

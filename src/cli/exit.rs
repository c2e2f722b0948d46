//! Exit codes of the command line.

/// Exit code for an invalid configuration (`EX_CONFIG` of sysexits.h).
pub(super) const EXIT_CONFIG: u8 = 78;

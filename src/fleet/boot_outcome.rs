//! How boots end, for those who count them.

use std::time::Duration;

/// How a boot has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootOutcome {
    /// A new instance was seen running this long after its launch was requested.
    Cold(Duration),
    /// A stopped instance was seen running this long after its start was requested.
    Warm(Duration),
    /// It ended, or took too long, before a worker was ready.
    Failed,
}

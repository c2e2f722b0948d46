//! Virtual time.

/// Virtual time since the start of the run. Inside a [`super::Trace`] and a [`super::History`]: since the start of the
/// trace.
pub type Time = std::time::Duration;

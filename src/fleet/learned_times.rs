//! The times that policies plan with.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Times learned from observations; before there are any, the configured priors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LearnedTimes {
    /// From the launch of a new instance until it runs.
    #[schema(value_type = Span)]
    pub boot_cold: Duration,
    /// From the start of a stopped instance until it runs.
    #[schema(value_type = Span)]
    pub boot_warm: Duration,
    /// The time of one job on one worker thread.
    #[schema(value_type = Span)]
    pub service: Duration,
}

/// A span of time.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes how a Duration is serialised")]
struct Span {
    /// Seconds.
    secs: u64,
    /// Nanoseconds in addition.
    nanos: u32,
}

//! The depth of the request queue.

use serde::{Deserialize, Serialize};

/// Number of messages in a queue by their state. Approximate on AWS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// Messages that wait.
    pub visible: u64,
    /// Messages that have been received and not deleted.
    pub in_flight: u64,
    /// Messages that will become visible.
    pub delayed: u64,
}

impl Depth {
    /// Returns the number of jobs that exist: waiting, at work, or yet to appear.
    pub fn total(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

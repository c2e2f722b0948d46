//! The depth of a queue.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Number of messages in a queue by their state. Approximate on AWS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Depth {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages that have been received but not deleted.
    pub in_flight: u64,
    /// Messages that will become visible after their delay.
    pub delayed: u64,
}

impl Depth {
    /// Returns the number of all messages: visible, in flight and delayed.
    pub fn total(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

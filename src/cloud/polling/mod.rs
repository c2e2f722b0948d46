//! How the messages of a queue are received and deleted with few calls, and with enough of them. Pure.

mod receivers;
mod throttling;

use std::time::Duration;

pub(crate) use receivers::{FIRST, ReceiverIndex, Receivers, Step};
pub(crate) use throttling::{BatchingWindow, retry_delete};

/// How a poller treats its queue.
#[derive(Clone, Debug)]
pub struct PollerOptions {
    /// The queue's visibility timeout. Every third of it, the poller renews it in full for the messages in flight.
    pub visibility: Duration,
    /// How long a delete may wait for others to share its call. It waits longer while the queue refuses calls.
    pub delete_linger: Duration,
    /// How long the next poll is delayed after one that returned some messages, but fewer than requested.
    pub poll_linger: Duration,
    /// Longest long poll, at most 20 s.
    pub wait: Duration,
    /// Most receives under way at a time. The owner then gets batches in any order.
    pub max_receives: usize,
    /// Whether a drain or a final poll lets the poll under way finish instead of dropping it: the messages that a
    /// remote queue returns to a dropped poll stay hidden until their visibility timeout.
    pub finish_poll: bool,
}

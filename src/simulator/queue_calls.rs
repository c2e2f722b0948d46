//! The calls to the queues: how many there are per second, which messages share one, and the quota of the region.
//!
//! Without a quota, each message has calls of its own. With one, messages share calls as they do on SQS: a web node sends
//! those that arrive within the batching window together, and a worker whose calls are refused waits for more.

use std::time::Duration;

use super::{Time, token_bucket::TokenBucket, usage::PeakCalls};

/// Most messages in one call.
pub const MAX_BATCH: usize = 10;

/// Calls to the request queue, each kind with a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueCall {
    Send,
    Receive,
    Delete,
}

/// Counts what happens in each second, and keeps the largest count.
#[derive(Default)]
struct Meter {
    second: u64,
    count: u64,
    peak: u64,
}

impl Meter {
    fn count(&mut self, now: Time) {
        if now.as_secs() != self.second {
            (self.second, self.count) = (now.as_secs(), 0);
        }
        self.count += 1;
        self.peak = self.peak.max(self.count);
    }
}

/// A call of a web node that others may still join.
#[derive(Clone, Copy, Default)]
struct OpenBatch {
    since: Time,
    messages: usize,
}

/// The calls to the queues.
pub struct QueueCalls {
    buckets: Option<[TokenBucket; 3]>,
    meters: [Meter; 3],
    replies: Meter,
    linger: Duration,
    /// One per web node.
    batches: Vec<OpenBatch>,
}

impl QueueCalls {
    /// Creates the counts of a cluster with this many web nodes. `quota` is the number of calls that each kind may make
    /// per second, `linger` the batching window.
    pub fn new(quota: Option<f64>, web_nodes: usize, linger: Duration) -> Self {
        let buckets = quota.map(|quota| [0; 3].map(|_| TokenBucket::new(quota, quota)));
        let batches = vec![OpenBatch::default(); web_nodes.max(1)];
        Self { buckets, meters: Default::default(), replies: Meter::default(), linger, batches }
    }

    /// Makes a call. Returns `false` if it is refused.
    pub fn take(&mut self, call: QueueCall, now: Time) -> bool {
        self.meters[call as usize].count(now);
        self.buckets.as_mut().is_none_or(|buckets| buckets[call as usize].take(1, now))
    }

    /// Adds a message to the call that its web node is about to make. Returns `false` if it needs a call of its own, which
    /// others may join.
    pub fn join(&mut self, message: usize, now: Time) -> bool {
        let node = message % self.batches.len();
        let batch = &mut self.batches[node];
        if self.buckets.is_some()
            && (1..MAX_BATCH).contains(&batch.messages)
            && now.saturating_sub(batch.since) <= self.linger
        {
            batch.messages += 1;
            return true;
        }
        *batch = OpenBatch { since: now, messages: 1 };
        false
    }

    /// Counts a reply.
    pub fn reply(&mut self, now: Time) {
        self.replies.count(now);
    }

    /// Returns the most calls of each kind, and the most replies, in one second.
    pub fn peaks(&self) -> PeakCalls {
        let [send, receive, delete] = [0, 1, 2].map(|kind| self.meters[kind].peak);
        PeakCalls { send, receive, delete, replies: self.replies.peak }
    }
}

/// The window after the first refused call, its longest value, and the time without refused calls after which it is halved.
/// They are those of a real worker: `src/cloud/polling/throttling.rs`.
const WINDOW: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
const RELAX: Duration = Duration::from_secs(10);
/// The shortest and the longest pause after a refused receive. Each one in a row doubles it.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// How long the messages of a worker wait for each other because its calls are refused.
#[derive(Clone, Copy, Default)]
pub struct Batching {
    window: Duration,
    refused: Time,
    /// Refused receives in a row.
    failures: u32,
}

impl Batching {
    /// Returns the window.
    pub fn window(&self, now: Time) -> Duration {
        let halvings = now.saturating_sub(self.refused).as_nanos() / RELAX.as_nanos();
        let window = self.window / (1 << halvings.min(20) as u32);
        if window < WINDOW[0] / 2 { Duration::ZERO } else { window }
    }

    /// Records a refused call.
    pub fn refused(&mut self, now: Time) {
        self.window = (self.window(now) * 2).clamp(WINDOW[0], WINDOW[1]);
        self.refused = now;
    }

    /// Records a refused receive, and returns the pause before the next.
    pub fn receive_refused(&mut self, now: Time) -> Duration {
        self.refused(now);
        self.failures += 1;
        PAUSE[0].saturating_mul(1 << (self.failures - 1).min(10)).min(PAUSE[1])
    }

    /// Records a receive that was not refused.
    pub fn received(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Time {
        Time::from_millis(milliseconds)
    }

    #[test]
    fn messages_of_one_node_share_a_call_within_the_window() {
        let mut calls = QueueCalls::new(Some(1e6), 2, ms(20));
        let joined: Vec<bool> = (0..24).map(|message| calls.join(message, ms(100))).collect();
        assert_eq!(joined.iter().filter(|joined| !**joined).count(), 4, "two nodes with twelve messages each");
        assert!(!calls.join(0, ms(121)) && calls.join(0, ms(141)) && !calls.join(0, ms(142)));
        let mut unlimited = QueueCalls::new(None, 1, ms(20));
        assert!(!unlimited.join(0, ms(0)) && !unlimited.join(1, ms(0)));
    }

    #[test]
    fn calls_beyond_the_quota_are_refused_and_the_peak_is_that_of_a_second() {
        let mut calls = QueueCalls::new(Some(10.0), 1, ms(20));
        let granted = |calls: &mut QueueCalls, at| (0..12).filter(|_| calls.take(QueueCall::Receive, ms(at))).count();
        assert_eq!([0, 500, 2_000].map(|at| granted(&mut calls, at)), [10, 5, 10]);
        assert!(calls.take(QueueCall::Send, ms(2_000)), "each kind has its own");
        calls.reply(ms(2_000));
        assert_eq!(calls.peaks(), PeakCalls { send: 1, receive: 24, delete: 0, replies: 1 });
    }

    #[test]
    fn the_window_of_a_worker_is_that_of_a_real_one() {
        let mut batching = Batching::default();
        assert_eq!(batching.window(ms(1)), Time::ZERO);
        let pauses: Vec<u128> = (0..9).map(|_| batching.receive_refused(ms(1_000)).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        let at = |seconds| batching.window(ms(1_000) + Time::from_secs(seconds)).as_millis();
        assert_eq!([0, 10, 50, 60].map(at), [1_000, 500, 31, 0]);
        batching.received();
        assert_eq!(batching.receive_refused(ms(1_000)), ms(100));
    }
}

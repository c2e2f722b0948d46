//! The calls to the queues: how many there are per second, which messages share one, and the quota of the region.
//!
//! Without a quota, each message has calls of its own. With one, messages share calls as they do on SQS: a web node sends
//! those that arrive within the batching window together, and a worker whose calls are refused waits for more.

use std::{collections::HashMap, time::Duration};

use super::{Time, token_bucket::TokenBucket, traces::JobIndex, usage::PeakCalls};

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

/// The latest batch of a web node, which others may still join.
#[derive(Clone, Copy, Default)]
struct OpenBatch {
    since: Time,
    /// The first message.
    first: JobIndex,
    messages: usize,
}

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in a call that is not refused, and that an earlier message has made.
    Joined,
    /// It has made a call, which others may join.
    Called,
    /// The call that it has made is refused, and must be repeated ([`QueueCalls::resend`]).
    Refused,
    /// It is in a call that is refused, and is sent when that is repeated.
    Waits,
}

/// The calls to the queues.
pub struct QueueCalls {
    buckets: Option<[TokenBucket; 3]>,
    meters: [Meter; 3],
    replies: Meter,
    linger: Duration,
    /// One per web node.
    batches: Vec<OpenBatch>,
    /// The messages of calls that were refused, by the first of each, which is one of them. A call is refused and repeated with
    /// all of its messages.
    refused: HashMap<JobIndex, Vec<JobIndex>>,
}

impl QueueCalls {
    /// Creates the counts of a cluster with this many web nodes. `quota` is the number of calls that each kind may make
    /// per second, `linger` the batching window.
    pub fn new(quota: Option<f64>, web_nodes: usize, linger: Duration) -> Self {
        let buckets = quota.map(|quota| [0; 3].map(|_| TokenBucket::new(quota, quota)));
        let batches = vec![OpenBatch::default(); web_nodes.max(1)];
        Self {
            buckets,
            meters: Default::default(),
            replies: Meter::default(),
            linger,
            batches,
            refused: HashMap::new(),
        }
    }

    /// Makes a call. Returns `false` if it is refused.
    pub fn take(&mut self, call: QueueCall, now: Time) -> bool {
        self.meters[call as usize].count(now);
        self.buckets.as_mut().is_none_or(|buckets| buckets[call as usize].take(1, now))
    }

    /// Sends a message in the latest call of its web node, or in a call of its own.
    pub fn send(&mut self, message: JobIndex, now: Time) -> Sent {
        let node = message % self.batches.len();
        let batch = &mut self.batches[node];
        if self.buckets.is_some()
            && (1..MAX_BATCH).contains(&batch.messages)
            && now.saturating_sub(batch.since) <= self.linger
        {
            batch.messages += 1;
            let Some(waiting) = self.refused.get_mut(&batch.first) else { return Sent::Joined };
            waiting.push(message);
            return Sent::Waits;
        }
        *batch = OpenBatch { since: now, first: message, messages: 1 };
        if self.take(QueueCall::Send, now) {
            return Sent::Called;
        }
        self.refused.insert(message, vec![message]);
        Sent::Refused
    }

    /// Repeats the refused call whose first message is this one. Returns its messages; `None` if it is refused again.
    pub fn resend(&mut self, first: JobIndex, now: Time) -> Option<Vec<JobIndex>> {
        if !self.take(QueueCall::Send, now) {
            return None;
        }
        let messages = self.refused.remove(&first).unwrap_or_default();
        // A message that came later would be in a call that was made without it.
        for batch in self.batches.iter_mut().filter(|batch| batch.first == first) {
            batch.messages = 0;
        }
        Some(messages)
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
        let sent: Vec<Sent> = (0..24).map(|message| calls.send(message, ms(100))).collect();
        assert_eq!(sent.iter().filter(|sent| **sent == Sent::Called).count(), 4, "two nodes with twelve messages each");
        let sent = [121, 141, 142].map(|at| calls.send(0, ms(at)));
        assert_eq!(sent, [Sent::Called, Sent::Joined, Sent::Called]);
        let mut unlimited = QueueCalls::new(None, 1, ms(20));
        assert_eq!([0, 1].map(|message| unlimited.send(message, ms(0))), [Sent::Called; 2]);
    }

    #[test]
    fn messages_wait_in_a_refused_call_until_it_is_repeated() {
        let mut calls = QueueCalls::new(Some(1.0), 1, ms(200));
        assert_eq!(calls.send(0, ms(0)), Sent::Called);
        (1..10).for_each(|message| assert_eq!(calls.send(message, ms(0)), Sent::Joined));
        assert_eq!([10, 11].map(|message| calls.send(message, ms(900))), [Sent::Refused, Sent::Waits]);
        assert_eq!(calls.resend(10, ms(950)), None);
        assert_eq!(calls.send(12, ms(960)), Sent::Waits);
        assert_eq!(calls.resend(10, ms(1_000)), Some(vec![10, 11, 12]));
        assert_eq!(calls.send(13, ms(1_001)), Sent::Refused, "the call was made without it");
        assert_eq!(calls.peaks().send, 3);
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

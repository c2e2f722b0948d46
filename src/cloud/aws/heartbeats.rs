//! Heartbeats: each worker sends the id of its instance to the status queue, and the active controller notices who has
//! fallen silent. EC2 knows nothing of a worker that hangs.
//!
//! A worker that EC2 does not let tag itself as ready says so here as well: see `docs/adr/0039-ready-although-not-tagged.md`.
//!
//! Silence alone proves nothing, because messages may be waiting, or may not have been sent. A worker counts as silent only
//! if the queue was read without a break while it missed several heartbeats, and to its end after that. See
//! `docs/adr/0035-heartbeats-over-a-queue.md`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use crate::cloud::{CloudResult, InstanceId, MAX_BATCH, Message, Queue, Receipt};

/// Number of heartbeats in a row that an unresponsive worker has missed.
const MISSED: u32 = 4;
/// Longest poll of the status queue: the longest that is allowed.
const POLL: Duration = Duration::from_secs(20);
/// How long it is remembered that an instance is ready and not tagged. Its worker repeats it every half minute.
const READY_KEPT: Duration = Duration::from_secs(10 * 60);
/// Between the id of an instance and the time of which it is ready, in a message that says so. Controllers of earlier releases
/// take the whole for the id of an instance, which they do not know.
const READY: &str = " ready ";
/// Pause after a poll that has failed.
const RETRY: Duration = Duration::from_secs(5);

/// Sends the heartbeats of an instance. Cheap to clone.
#[derive(Clone)]
pub(super) struct Heartbeat {
    queue: Arc<dyn Queue>,
    pub(super) every: Duration,
}

impl Heartbeat {
    /// Creates a sender of heartbeats to `queue`.
    pub(super) fn new(queue: Arc<dyn Queue>, every: Duration) -> Self {
        Self { queue, every }
    }

    /// Sends one.
    pub(super) async fn beat(&self, id: &str) -> CloudResult<()> {
        self.queue.send_one(Message { body: Bytes::from(id.to_owned()), ..Message::default() }).await
    }

    /// Says that the worker of an instance has been ready since `at`, in seconds since the Unix epoch.
    pub(super) async fn announce(&self, id: &str, at: i64) -> CloudResult<()> {
        self.queue.send_one(Message { body: Bytes::from(format!("{id}{READY}{at}")), ..Message::default() }).await
    }

    /// Sends one after another, beginning after the first pause.
    pub(super) async fn run(self, id: String) {
        loop {
            tokio::time::sleep(self.every).await;
            if let Err(error) = self.beat(&id).await {
                tracing::warn!(%error, "heartbeat not sent");
            }
        }
    }
}

/// Reads a message: the instance, and since when it has been ready if it says so, in seconds since the Unix epoch.
fn parse(body: &[u8]) -> (InstanceId, Option<i64>) {
    let text = String::from_utf8_lossy(body);
    let announced = text.split_once(READY).and_then(|(id, at)| Some((InstanceId(id.into()), at.parse().ok()?)));
    announced.map_or_else(|| (InstanceId(text.clone().into_owned()), None), |(id, at)| (id, Some(at)))
}

/// What is known of heartbeats.
#[derive(Default)]
struct Table {
    /// Since when instances have been ready that say so, in seconds since the Unix epoch, and when they last said it.
    ready: HashMap<InstanceId, (i64, Instant)>,
    /// When the last heartbeat of an instance was received or, if there was none, when it was asked for first.
    received: HashMap<InstanceId, Instant>,
    /// When the latest poll began that left no messages in the queue, as far as one can tell: SQS may return fewer than
    /// there are.
    caught_up: Option<Instant>,
    /// When the latest poll ended.
    polled: Option<Instant>,
}

impl Table {
    /// Notes a poll that began at `began` and returned these messages. After a time without polls that is longer than
    /// `longest_gap`, everybody has all of their time again: heartbeats may have been lost meanwhile, or not yet delivered.
    fn polled(&mut self, began: Instant, now: Instant, longest_gap: Duration, ids: Vec<InstanceId>) {
        if self.polled.is_some_and(|polled| polled + longest_gap < now) {
            *self = Self { ready: std::mem::take(&mut self.ready), ..Self::default() };
        }
        self.polled = Some(now);
        if ids.len() < MAX_BATCH {
            self.caught_up = Some(began);
        }
        self.received.extend(ids.into_iter().map(|id| (id, now)));
    }

    /// Notes that an instance has been ready since `at`.
    fn announced(&mut self, id: InstanceId, at: i64, now: Instant) {
        self.ready.retain(|_, (_, said)| *said + READY_KEPT > now);
        self.ready.insert(id, (at, now));
    }

    fn ready_at(&self, now: Instant) -> HashMap<InstanceId, i64> {
        let lately = self.ready.iter().filter(|(_, (_, said))| *said + READY_KEPT > now);
        lately.map(|(id, (at, _))| (id.clone(), *at)).collect()
    }

    /// Returns which of the instances, each with the time between its heartbeats, have missed too many.
    fn silent(&mut self, now: Instant, promised: &HashMap<InstanceId, Duration>) -> HashSet<InstanceId> {
        self.received.retain(|id, _| promised.contains_key(id));
        let silent = |(id, every): &(&InstanceId, &Duration)| {
            let last = *self.received.entry((*id).clone()).or_insert(now);
            self.caught_up.is_some_and(|caught_up| last + **every * MISSED <= caught_up)
        };
        promised.iter().filter(silent).map(|(id, _)| id.clone()).collect()
    }
}

/// The heartbeats of all workers of a cluster.
#[derive(Default)]
pub struct Heartbeats {
    table: Mutex<Table>,
    /// The shortest time between heartbeats, if any instance may send them: otherwise none are received, because each poll is
    /// billed.
    shortest: watch::Sender<Option<Duration>>,
}

impl Heartbeats {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns since when instances have been ready that have said so lately, in seconds since the Unix epoch. One that no
    /// longer says so and was never tagged may have died.
    pub(super) fn ready(&self) -> HashMap<InstanceId, i64> {
        self.table().ready_at(Instant::now())
    }

    /// Returns which of the running instances, each with the time between its heartbeats, have missed too many. `booting`
    /// tells whether there are others, which may say that they are ready.
    pub(super) fn silent(&self, promised: &HashMap<InstanceId, Duration>, booting: bool) -> HashSet<InstanceId> {
        let new = promised.values().min().copied().or(booting.then_some(POLL));
        self.shortest.send_if_modified(|shortest| std::mem::replace(shortest, new) != new);
        self.table().silent(Instant::now(), promised)
    }

    /// Receives heartbeats while there are instances that send them, until it is dropped. What was received before is
    /// forgotten: others may have received what came since.
    pub async fn listen(&self, queue: &dyn Queue) {
        *self.table() = Table::default();
        let mut shortest = self.shortest.subscribe();
        loop {
            let Ok(every) = shortest.wait_for(Option::is_some).await.map(|every| every.unwrap_or(POLL)) else {
                return; // cannot happen: the sender is here
            };
            let began = Instant::now();
            // A worker is silent only after a poll that begins late enough, so polls are not long.
            match queue.receive(MAX_BATCH, POLL.min(every / 2)).await {
                Ok(deliveries) => {
                    let (now, mut ids) = (Instant::now(), Vec::with_capacity(deliveries.len()));
                    for (id, ready) in deliveries.iter().map(|delivery| parse(&delivery.body)) {
                        if let Some(at) = ready {
                            self.table().announced(id.clone(), at, now);
                        }
                        ids.push(id);
                    }
                    self.table().polled(began, now, every * 2, ids);
                    let receipts: Vec<Receipt> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
                    if let Some(Err(error)) = queue.delete(receipts).await.into_iter().find(Result::is_err) {
                        tracing::warn!(%error, "heartbeats not deleted: they will be received again");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "heartbeats cannot be received: no worker counts as unresponsive meanwhile");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(30);

    fn id(name: &str) -> InstanceId {
        InstanceId(name.into())
    }

    fn promised(names: &[&str]) -> HashMap<InstanceId, Duration> {
        names.iter().map(|name| (id(name), EVERY)).collect()
    }

    /// A table, and polls that last ten seconds, in seconds since it was made.
    struct Polls {
        table: Table,
        start: Instant,
    }

    impl Polls {
        fn new() -> Self {
            Self { table: Table::default(), start: Instant::now() }
        }

        fn poll(&mut self, began: u64, names: &[&str]) {
            let at = |seconds| self.start + Duration::from_secs(seconds);
            let ids = names.iter().map(|name| id(name)).collect();
            self.table.polled(at(began), at(began + 10), EVERY * 2, ids);
        }

        fn silent(&mut self, seconds: u64, names: &[&str]) -> Vec<String> {
            let silent = self.table.silent(self.start + Duration::from_secs(seconds), &promised(names));
            let mut silent: Vec<String> = silent.into_iter().map(|id| id.0).collect();
            silent.sort();
            silent
        }
    }

    const NOBODY: [&str; 0] = [];

    #[test]
    fn an_instance_says_that_it_is_ready_and_is_remembered_for_a_while() {
        assert_eq!(parse(b"i-1"), (id("i-1"), None));
        assert_eq!(parse(b"i-1 ready 1700000000"), (id("i-1"), Some(1_700_000_000)));
        assert_eq!(parse(b"i-1 ready soon").1, None);
        let (heartbeats, start) = (Heartbeats::default(), Instant::now());
        heartbeats.table().announced(id("a"), 7, start);
        heartbeats.table().announced(id("b"), 8, start + READY_KEPT / 2);
        assert_eq!(heartbeats.ready(), HashMap::from([(id("a"), 7), (id("b"), 8)]));
        // A time without polls does not change what was said.
        heartbeats.table().polled(start, start, EVERY, vec![]);
        heartbeats.table().polled(start + EVERY * 3, start + EVERY * 3, EVERY, vec![]);
        assert_eq!(heartbeats.ready().len(), 2);
        // Also if nobody else says anything, what was said is forgotten.
        assert_eq!(heartbeats.table().ready_at(start + READY_KEPT), HashMap::from([(id("b"), 8)]));
        heartbeats.table().announced(id("c"), 9, start + READY_KEPT);
        assert_eq!(heartbeats.ready(), HashMap::from([(id("b"), 8), (id("c"), 9)]));
    }

    #[test]
    fn the_queue_is_read_while_an_instance_boots_or_sends_heartbeats() {
        let heartbeats = Heartbeats::default();
        let reads = |names: &[&str], booting| {
            heartbeats.silent(&promised(names), booting);
            *heartbeats.shortest.borrow()
        };
        assert_eq!([reads(&[], false), reads(&[], true), reads(&["a"], true)], [None, Some(POLL), Some(EVERY)]);
    }

    #[test]
    fn who_misses_four_heartbeats_is_silent() {
        let mut polls = Polls::new();
        polls.poll(0, &["a", "b"]);
        for began in [30, 60, 90, 120] {
            polls.poll(began, &["b"]);
        }
        assert_eq!(polls.silent(130, &["a", "b"]), NOBODY, "the poll began too early");
        polls.poll(130, &[]);
        assert_eq!(polls.silent(140, &["a", "b"]), ["a"]);
        polls.poll(140, &["a"]);
        assert_eq!(polls.silent(150, &["a", "b"]), NOBODY, "it was only late");
    }

    #[test]
    fn nobody_is_silent_while_the_queue_cannot_be_read_to_its_end() {
        let mut polls = Polls::new();
        polls.poll(0, &["a"]);
        for began in (30..300).step_by(30) {
            polls.poll(began, &["b"; MAX_BATCH]);
        }
        assert_eq!(polls.silent(300, &["a"]), NOBODY, "more are waiting");
        polls.poll(300, &["b"; MAX_BATCH - 1]);
        assert_eq!(polls.silent(310, &["a"]), ["a"]);
    }

    #[test]
    fn nobody_is_silent_because_the_queue_could_not_be_reached() {
        let mut polls = Polls::new();
        polls.poll(0, &["a", "b", "c"]);
        assert_eq!(polls.silent(10, &["a", "b", "c"]), NOBODY);
        // Neither workers nor the controller reach the queue. The first poll after that returns with the first heartbeat.
        polls.poll(1_000, &["b"]);
        assert_eq!(polls.silent(1_010, &["a", "b", "c"]), NOBODY);
        for began in [1_030, 1_060, 1_090, 1_120] {
            polls.poll(began, &["b", "c"]);
            assert_eq!(polls.silent(began + 10, &["a", "b", "c"]), NOBODY);
        }
        polls.poll(1_130, &[]);
        assert_eq!(polls.silent(1_140, &["a", "b", "c"]), ["a"], "it has had all of its time since");
    }

    #[test]
    fn a_new_controller_gives_every_worker_its_time() {
        let mut polls = Polls::new();
        polls.poll(0, &[]);
        assert_eq!(polls.silent(10, &["a"]), NOBODY);
        for began in [40, 70, 100, 130] {
            polls.poll(began, &[]);
        }
        assert_eq!(polls.silent(140, &["a"]), ["a"]);
        // An instance that was stopped and runs again begins anew.
        assert_eq!(polls.silent(150, &[]), NOBODY);
        assert_eq!(polls.silent(160, &["a"]), NOBODY);
    }
}

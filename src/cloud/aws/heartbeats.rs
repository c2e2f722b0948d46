//! Heartbeats: each worker sends the id of its instance to the status queue, and the active controller notices who has
//! fallen silent. EC2 knows nothing of a worker that hangs.
//!
//! Silence alone proves nothing, because messages may be waiting. A worker counts as silent only once the queue was read
//! to its end, after the time in which it has missed several heartbeats. See `docs/adr/0035-heartbeats-over-a-queue.md`.

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

/// What is known of heartbeats.
#[derive(Default)]
struct Table {
    /// When the last heartbeat of an instance was received or, if there was none, when it was asked for first.
    received: HashMap<InstanceId, Instant>,
    /// When the latest poll began that left no messages in the queue.
    caught_up: Option<Instant>,
}

impl Table {
    /// Notes a poll that began at `began` and returned these messages.
    fn polled(&mut self, began: Instant, now: Instant, ids: Vec<InstanceId>) {
        if ids.len() < MAX_BATCH {
            self.caught_up = Some(began);
        }
        self.received.extend(ids.into_iter().map(|id| (id, now)));
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
    /// The shortest time between heartbeats, if any instance sends them: otherwise none are received, because each poll is
    /// billed.
    shortest: watch::Sender<Option<Duration>>,
}

impl Heartbeats {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which of the running instances, each with the time between its heartbeats, have missed too many.
    pub(super) fn silent(&self, promised: &HashMap<InstanceId, Duration>) -> HashSet<InstanceId> {
        let new = promised.values().min().copied();
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
                    let id = |body: &Bytes| InstanceId(String::from_utf8_lossy(body).into_owned());
                    let ids = deliveries.iter().map(|delivery| id(&delivery.body)).collect();
                    self.table().polled(began, Instant::now(), ids);
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

    #[test]
    fn who_misses_four_heartbeats_is_silent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::default();
        table.polled(at(0), at(1), vec![id("a"), id("b")]);
        for seconds in [31, 61, 91] {
            table.polled(at(seconds - 10), at(seconds), vec![id("b")]);
        }
        table.polled(at(120), at(121), vec![id("b")]);
        assert_eq!(table.silent(at(121), &promised(&["a", "b"])), HashSet::new(), "the poll began too early");
        table.polled(at(121), at(140), vec![]);
        assert_eq!(table.silent(at(140), &promised(&["a", "b"])), HashSet::from([id("a")]));
        table.polled(at(140), at(141), vec![id("a")]);
        assert_eq!(table.silent(at(141), &promised(&["a", "b"])), HashSet::new(), "it was only late");
    }

    #[test]
    fn nobody_is_silent_while_the_queue_cannot_be_read_to_its_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::default();
        table.polled(at(0), at(1), vec![id("a")]);
        assert_eq!(table.silent(at(10_000), &promised(&["a"])), HashSet::new(), "no poll since");
        table.polled(at(10_000), at(10_001), vec![id("b"); MAX_BATCH]);
        assert_eq!(table.silent(at(10_001), &promised(&["a"])), HashSet::new(), "more are waiting");
        table.polled(at(10_001), at(10_002), vec![id("b"); MAX_BATCH - 1]);
        assert_eq!(table.silent(at(10_002), &promised(&["a"])), HashSet::from([id("a")]));
    }

    #[test]
    fn a_new_controller_gives_every_worker_its_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = Table::default();
        table.polled(at(1_000), at(1_020), vec![]);
        assert_eq!(table.silent(at(1_021), &promised(&["a"])), HashSet::new());
        table.polled(at(1_141), at(1_161), vec![]);
        assert_eq!(table.silent(at(1_161), &promised(&["a"])), HashSet::from([id("a")]));
        // An instance that was stopped and runs again begins anew.
        assert_eq!(table.silent(at(1_170), &promised(&[])), HashSet::new());
        assert_eq!(table.silent(at(1_180), &promised(&["a"])), HashSet::new());
    }
}

//! One embedded queue: an index in memory, bodies in memory or in the journal, and long polls that wake at once.
//!
//! A message can be received as soon as it is in the index; `send` returns when it is durable, `send_buffered`
//! immediately. See `docs/adr/0002-deliver-before-durable.md` and `docs/adr/0015-promises-decide-what-is-durable.md`.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    clock::{Clock, visible_at},
    journal::{Journal, StoredMessage},
    queue_index::{QueueIndex, Received, Seq, Ticket},
};
use crate::cloud::{
    CloudError, CloudResult, Delivery, Depth, Message, Queue, QueueSpec, Receipt,
    queue_limits::{check_message, check_receive, check_visibility},
};

/// How many bytes of bodies a durable queue keeps in memory once they are on disk.
const MAX_CACHED_BYTES: usize = 64 << 20;

struct State {
    index: QueueIndex,
    bodies: HashMap<Seq, Bytes>,
    cached_bytes: usize,
}

impl State {
    fn forget_body(&mut self, seq: Seq) {
        if let Some(body) = self.bodies.remove(&seq) {
            self.cached_bytes -= body.len();
        }
    }
}

/// An embedded queue.
pub(super) struct LocalQueue {
    name: Arc<str>,
    spec: QueueSpec,
    state: Mutex<State>,
    /// Wakes a receiver when a message may have become visible.
    arrived: Notify,
    /// `None` for a queue in memory only.
    journal: Option<Arc<Journal>>,
    dead_letter: Option<Arc<LocalQueue>>,
    clock: Arc<Clock>,
    last_seq: Arc<AtomicU64>,
}

/// A message that was put into the index, and the future result of its commit, if it is awaited.
struct Accepted {
    seq: Seq,
    dedup: Option<String>,
    commit: Option<oneshot::Receiver<CloudResult<()>>>,
}

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteMode {
    /// With the next commit, which the sender awaits.
    Committed,
    /// Some time later, unless it is deleted first.
    Buffered,
}

impl LocalQueue {
    /// Opens the queue with the messages that the journal holds for it. `shared` is the clock and the last sequence
    /// number across all queues.
    pub(super) fn open(
        spec: QueueSpec,
        dead_letter: Option<Arc<Self>>,
        journal: &Arc<Journal>,
        shared: (Arc<Clock>, Arc<AtomicU64>),
    ) -> CloudResult<Self> {
        let (clock, last_seq) = shared;
        let mut index = QueueIndex::new(&spec);
        if spec.durable {
            let stored = journal.messages(&spec.name)?;
            let now = clock.now();
            for (seq, StoredMessage { receives, visible_at: written, group, dedup }) in stored {
                index.insert(seq, group, receives, visible_at(written, now, spec.fifo), now);
                if let Some(dedup) = dedup {
                    index.check_and_remember(&dedup, now);
                }
            }
        }
        Ok(Self {
            name: Arc::from(spec.name.as_str()),
            state: Mutex::new(State { index, bodies: HashMap::new(), cached_bytes: 0 }),
            arrived: Notify::new(),
            journal: spec.durable.then(|| journal.clone()),
            dead_letter,
            clock,
            last_seq,
            spec,
        })
    }

    /// Returns the settings that the queue was created with.
    pub(super) fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// Returns the groups of the messages.
    pub(super) fn groups(&self) -> Vec<String> {
        self.state().index.groups().map(str::to_owned).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn receipt(&self, ticket: Ticket) -> Receipt {
        // The clock's number distinguishes the deliveries of this process from those of earlier ones.
        Receipt(format!("{:x}-{:x}-{:x}", self.clock.id, ticket.seq, ticket.delivery))
    }

    fn ticket(&self, receipt: &Receipt) -> CloudResult<Ticket> {
        let mut parts = receipt.0.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
            (Some(clock), Some(seq), Some(delivery)) if clock == self.clock.id => Ok(Ticket { seq, delivery }),
            (Some(_), Some(_), Some(_)) => Err(CloudError::Conflict("the receipt was issued before a restart".into())),
            _ => Err(CloudError::Invalid("not a receipt of this queue".into())),
        }
    }

    /// Adds a message to the index and starts to write it; returns `None` for a duplicate.
    fn accept(&self, message: Message, mode: WriteMode) -> CloudResult<Option<Accepted>> {
        check_message(&self.name, self.spec.fifo, &message)?;
        if let Some(journal) = &self.journal {
            journal.check()?;
        }
        let now = self.clock.now();
        let stored = StoredMessage {
            receives: 0,
            visible_at: now + message.delay.as_millis() as u64,
            group: message.group,
            dedup: message.dedup.filter(|_| self.spec.fifo),
        };
        let mut state = self.state();
        if let Some(dedup) = &stored.dedup
            && state.index.check_and_remember(dedup, now)
        {
            return Ok(None);
        }
        Ok(Some(self.store(&mut state, stored, message.body, (now, mode))))
    }

    fn store(&self, state: &mut State, stored: StoredMessage, body: Bytes, (now, mode): (u64, WriteMode)) -> Accepted {
        let dedup = stored.dedup.clone();
        let seq = self.add(state, &stored, body.clone(), now);
        let commit = self.journal.as_ref().and_then(|journal| match mode {
            WriteMode::Committed => Some(journal.put(&self.name, seq, stored, body)),
            WriteMode::Buffered => {
                journal.put_buffered(&self.name, seq, stored, body);
                None
            }
        });
        Accepted { seq, dedup, commit }
    }

    /// Adds a message in memory.
    fn add(&self, state: &mut State, stored: &StoredMessage, body: Bytes, now: u64) -> Seq {
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed) + 1;
        state.cached_bytes += body.len();
        state.bodies.insert(seq, body);
        state.index.insert(seq, stored.group.clone(), stored.receives, stored.visible_at, now);
        self.arrived.notify_one();
        seq
    }

    /// Waits until an accepted message is durable; removes it if it cannot be made durable.
    async fn wait_durable(&self, accepted: Accepted) -> CloudResult<()> {
        let Accepted { seq, dedup, commit } = accepted;
        let Some(commit) = commit else { return Ok(()) };
        let result = commit.await.unwrap_or_else(|_| Err(closing()));
        let mut state = self.state();
        if result.is_err() {
            state.index.remove(seq);
            if let Some(dedup) = dedup {
                state.index.forget_duplicate(&dedup);
            }
        }
        if result.is_err() || state.cached_bytes > MAX_CACHED_BYTES {
            state.forget_body(seq);
        }
        result
    }

    /// Receives what is visible now. Also returns when the next message becomes visible because its delay or its
    /// visibility timeout has ended.
    fn take(&self, max: usize) -> CloudResult<(Vec<Delivery>, Option<u64>)> {
        let mut state = self.state();
        let now = self.clock.now();
        let Received { taken, exhausted } = state.index.receive(max, now);
        for (seq, group) in exhausted {
            self.move_to_dead_letter_queue(&mut state, seq, group)?;
        }
        let mut out = Vec::with_capacity(taken.len());
        for taken in taken {
            let seq = taken.ticket.seq;
            let body = self.body(&state, seq)?;
            // The first receive is not written: most messages have only one. After a restart the count may be one too
            // low.
            if let Some(journal) = self.journal.as_ref().filter(|_| taken.receives > 1) {
                journal.count_receives(&self.name, seq, taken.receives);
            }
            let receipt = self.receipt(taken.ticket);
            let group = state.index.group(seq).map(str::to_owned);
            out.push(Delivery { body, receipt, receives: taken.receives, group });
        }
        Ok((out, state.index.next_timer()))
    }

    fn body(&self, state: &State, seq: Seq) -> CloudResult<Bytes> {
        if let Some(body) = state.bodies.get(&seq) {
            return Ok(body.clone());
        }
        let stored = self.journal.as_ref().map(|journal| journal.body(&self.name, seq)).transpose()?.flatten();
        stored.ok_or_else(|| CloudError::Unavailable(format!("the body of message {seq} is gone")))
    }

    /// Moves a message that was received too often to the dead-letter queue, or drops it if there is none.
    fn move_to_dead_letter_queue(&self, state: &mut State, seq: Seq, group: Option<String>) -> CloudResult<()> {
        let body = self.body(state, seq)?;
        state.forget_body(seq);
        let Some(dead) = &self.dead_letter else {
            tracing::warn!(queue = %self.name, "a message was received too often: dropping it");
            self.forget(seq);
            return Ok(());
        };
        tracing::warn!(queue = %self.name, to = %dead.name, "a message was received too often: dead-lettering it");
        let now = self.clock.now();
        let group = if dead.spec.fifo { group.or_else(|| Some(seq.to_string())) } else { None };
        let stored = StoredMessage { receives: 0, visible_at: now, group, dedup: None };
        let mut dead_state = dead.state();
        let moved = dead.add(&mut dead_state, &stored, body.clone(), now);
        match (&self.journal, &dead.journal) {
            (Some(journal), Some(_)) => journal.replace((&self.name, seq), (&dead.name, moved), stored, body),
            (_, Some(journal)) => drop(journal.put(&dead.name, moved, stored, body)),
            (_, None) => self.forget(seq),
        }
        Ok(())
    }

    /// Deletes a message from the journal without waiting for it.
    fn forget(&self, seq: Seq) {
        if let Some(journal) = &self.journal {
            drop(journal.delete(&self.name, seq));
        }
    }

    /// Returns the messages of these deliveries to the queue, because their receiver has died. Receipts that are no
    /// longer valid are ignored.
    pub(super) fn release(&self, receipts: impl IntoIterator<Item = Receipt>) {
        for receipt in receipts {
            let Ok(ticket) = self.ticket(&receipt) else { continue };
            let now = self.clock.now();
            if self.state().index.extend(ticket, Duration::ZERO, now).is_ok() {
                self.arrived.notify_one();
            }
        }
    }
}

/// Returns the error for calls made after the journal has closed.
pub(super) fn closing() -> CloudError {
    CloudError::Unavailable("the queue is closing".into())
}

#[async_trait]
impl Queue for LocalQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let accepted: Vec<_> = batch.into_iter().map(|message| self.accept(message, WriteMode::Committed)).collect();
        let mut out = Vec::with_capacity(accepted.len());
        for accepted in accepted {
            out.push(match accepted {
                Ok(Some(accepted)) => self.wait_durable(accepted).await,
                Ok(None) => self.flush().await, // the first message with this id may not be durable yet
                Err(error) => Err(error),
            });
        }
        out
    }

    async fn send_buffered(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        if self.state().cached_bytes > MAX_CACHED_BYTES {
            return self.send(batch).await; // only a body that is on disk can be dropped from memory
        }
        batch.into_iter().map(|message| self.accept(message, WriteMode::Buffered).map(drop)).collect()
    }

    async fn flush(&self) -> CloudResult<()> {
        match &self.journal {
            Some(journal) => journal.flush().await.unwrap_or_else(|_| Err(closing())),
            None => Ok(()),
        }
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        check_receive(max, wait)?;
        let deadline = Instant::now() + wait;
        loop {
            // Registered before the index is read, so that no message that arrives in between is missed.
            let arrived = self.arrived.notified();
            let (deliveries, timer) = self.take(max)?;
            if !deliveries.is_empty() {
                // One notification may stand for several messages: the next receiver looks for more.
                self.arrived.notify_one();
                return Ok(deliveries);
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
            let timer =
                timer.map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(self.clock.now()).max(1)));
            let until = timer.map_or(deadline, |at| at.min(deadline));
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        let mut out = Vec::with_capacity(batch.len());
        for receipt in &batch {
            let deleted = self.ticket(receipt).and_then(|ticket| {
                let mut state = self.state();
                let seq = state.index.delete(ticket)?;
                let Some(seq) = seq else { return Ok(None) };
                state.forget_body(seq);
                Ok(self.journal.as_ref().map(|journal| journal.delete(&self.name, seq)))
            });
            if self.spec.fifo && deleted.is_ok() {
                self.arrived.notify_one(); // the next of its group
            }
            out.push(deleted);
        }
        let mut results = Vec::with_capacity(out.len());
        for deleted in out {
            results.push(match deleted {
                Ok(None) => Ok(()),
                Ok(Some(durable)) => durable.await.unwrap_or_else(|_| Err(closing())),
                Err(error) => Err(error),
            });
        }
        results
    }

    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        let extend = |(receipt, visibility): (Receipt, Duration)| {
            check_visibility(visibility)?;
            let ticket = self.ticket(&receipt)?;
            let now = self.clock.now();
            self.state().index.extend(ticket, visibility, now)?;
            if visibility.is_zero() {
                self.arrived.notify_one();
            }
            Ok(())
        };
        batch.into_iter().map(extend).collect()
    }

    async fn depth(&self) -> CloudResult<Depth> {
        if let Some(journal) = &self.journal {
            journal.check()?;
        }
        Ok(self.state().index.depth(self.clock.now()))
    }

    fn oldest(&self) -> Option<Duration> {
        Some(self.state().index.oldest(self.clock.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::queue_limits::MAX_BODY;

    #[tokio::test]
    async fn a_clock_that_was_set_back_hides_no_message() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Arc::new(Journal::open(&folder.path().join("queues.redb")).expect("a journal"));
        let hour = 3_600_000;
        let ahead = crate::clock::now_ms() + hour;
        let stored = StoredMessage { receives: 0, visible_at: ahead, group: Some("g".into()), dedup: None };
        journal.put(&Arc::from("jobs"), 1, stored, Bytes::from_static(b"x")).await.expect("written").expect("durable");
        let spec = QueueSpec {
            name: "jobs".into(),
            fifo: true,
            visibility: Duration::from_secs(30),
            max_receives: 5,
            dead_letter: None,
            durable: true,
        };
        let shared = (Arc::new(Clock::new()), Arc::new(AtomicU64::new(1)));
        let queue = LocalQueue::open(spec, None, &journal, shared).expect("opened");
        assert_eq!(queue.receive(1, Duration::ZERO).await.expect("received").len(), 1);
    }

    #[tokio::test]
    async fn bodies_beyond_the_cache_are_read_from_the_disk() {
        const MESSAGES: usize = MAX_CACHED_BYTES / MAX_BODY + 10;
        let world = crate::testing::World::new().await;
        let queue = world.queues.find(&world.settings.queue.listener).expect("a queue");
        for n in 0..MESSAGES {
            let body = Bytes::from(vec![n as u8; MAX_BODY]);
            let message =
                Message { body, group: Some(n.to_string()), dedup: Some(n.to_string()), ..Message::default() };
            assert_eq!(queue.send(vec![message]).await, [Ok(())]);
            assert!(queue.state().cached_bytes <= MAX_CACHED_BYTES);
        }
        let mut received = 0;
        while received < MESSAGES {
            for delivery in queue.receive(10, Duration::ZERO).await.expect("received") {
                assert!(delivery.body == vec![received as u8; MAX_BODY], "message {received}");
                received += 1;
            }
        }
    }
}

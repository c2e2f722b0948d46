//! One embedded queue: an index in memory, bodies in memory or in the journal, long polls that wake at once.
//!
//! A message can be received as soon as it is in the index; `send` answers when it is durable, `send_buffered` at once. See
//! `docs/adr/0002-deliver-before-durable.md` and `docs/adr/0015-promises-decide-what-is-durable.md`.

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
    journal::{Journal, Kept},
    queue_index::{QueueIndex, Received, Seq, Ticket},
};
use crate::{
    clock::now_ms,
    cloud::{
        CloudError, CloudResult, Delivery, Depth, Message, Queue, QueueSpec, Receipt,
        queue_limits::{check_message, check_receive, check_visibility},
    },
};

/// Bytes of bodies that a durable queue keeps in memory once they are on disk.
const HOT_BYTES: usize = 64 << 20;

/// Monotonic, but in milliseconds of the epoch, so that delays survive a restart.
pub struct Clock {
    start: Instant,
    epoch_ms: u64,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now(), epoch_ms: now_ms() }
    }

    fn now(&self) -> u64 {
        self.epoch_ms + self.start.elapsed().as_millis() as u64
    }
}

struct State {
    index: QueueIndex,
    bodies: HashMap<Seq, Bytes>,
    hot_bytes: usize,
}

impl State {
    fn forget_body(&mut self, seq: Seq) {
        if let Some(body) = self.bodies.remove(&seq) {
            self.hot_bytes -= body.len();
        }
    }
}

/// One queue.
pub struct LocalQueue {
    name: Arc<str>,
    spec: QueueSpec,
    state: Mutex<State>,
    /// Told once for each message that has become visible.
    arrived: Notify,
    /// `None`: in memory only.
    journal: Option<Arc<Journal>>,
    dead_letter: Option<Arc<LocalQueue>>,
    clock: Arc<Clock>,
    last_seq: Arc<AtomicU64>,
}

/// A message that was put into the index, and the answer of its commit, if it has one.
struct Accepted {
    seq: Seq,
    dedup: Option<String>,
    durable: Option<oneshot::Receiver<CloudResult<()>>>,
}

/// When a message is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Now,
    Soon,
}

impl LocalQueue {
    /// The queue with what the journal holds of it. `shared`: the clock and the last position of all queues.
    pub fn open(
        spec: QueueSpec,
        dead_letter: Option<Arc<Self>>,
        journal: &Arc<Journal>,
        shared: (Arc<Clock>, Arc<AtomicU64>),
    ) -> CloudResult<Self> {
        let (clock, last_seq) = shared;
        let mut index = QueueIndex::new(&spec);
        if spec.durable {
            let kept = journal.load(&spec.name).map_err(|e| CloudError::Unavailable(format!("{e:#}")))?;
            let now = clock.now();
            for (seq, Kept { receives, visible_at, group, dedup }) in kept {
                index.insert(seq, group, receives, visible_at, now);
                if let Some(dedup) = dedup {
                    index.is_duplicate(&dedup, now);
                }
            }
        }
        Ok(Self {
            name: Arc::from(spec.name.as_str()),
            state: Mutex::new(State { index, bodies: HashMap::new(), hot_bytes: 0 }),
            arrived: Notify::new(),
            journal: spec.durable.then(|| journal.clone()),
            dead_letter,
            clock,
            last_seq,
            spec,
        })
    }

    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn receipt(&self, ticket: Ticket) -> Receipt {
        // The clock's start tells the deliveries of this process from those of the one before.
        Receipt(format!("{:x}-{:x}-{:x}", self.clock.epoch_ms, ticket.seq, ticket.delivery))
    }

    fn ticket(&self, receipt: &Receipt) -> CloudResult<Ticket> {
        let mut parts = receipt.0.split('-').map(|part| u64::from_str_radix(part, 16).ok());
        match (parts.next().flatten(), parts.next().flatten(), parts.next().flatten()) {
            (Some(epoch), Some(seq), Some(delivery)) if epoch == self.clock.epoch_ms => Ok(Ticket { seq, delivery }),
            (Some(_), Some(_), Some(_)) => Err(CloudError::Conflict("the receipt is from before a restart".into())),
            _ => Err(CloudError::Invalid("not a receipt of this queue".into())),
        }
    }

    /// Puts a message into the index; `None` if it is a duplicate.
    fn accept(&self, message: Message, durable: Durable) -> CloudResult<Option<Accepted>> {
        check_message(&self.name, self.spec.fifo, &message)?;
        if let Some(journal) = &self.journal {
            journal.check()?;
        }
        let now = self.clock.now();
        let kept = Kept {
            receives: 0,
            visible_at: now + message.delay.as_millis() as u64,
            group: message.group,
            dedup: message.dedup.filter(|_| self.spec.fifo),
        };
        let mut state = self.state();
        if let Some(dedup) = &kept.dedup
            && state.index.is_duplicate(dedup, now)
        {
            return Ok(None);
        }
        Ok(Some(self.store(&mut state, kept, message.body, (now, durable))))
    }

    fn store(&self, state: &mut State, kept: Kept, body: Bytes, (now, durable): (u64, Durable)) -> Accepted {
        let seq = self.last_seq.fetch_add(1, Ordering::Relaxed) + 1;
        state.hot_bytes += body.len();
        state.bodies.insert(seq, body.clone());
        state.index.insert(seq, kept.group.clone(), kept.receives, kept.visible_at, now);
        let dedup = kept.dedup.clone();
        let durable = self.journal.as_ref().and_then(|journal| match durable {
            Durable::Now => Some(journal.put(&self.name, seq, kept, body)),
            Durable::Soon => {
                journal.put_buffered(&self.name, seq, kept, body);
                None
            }
        });
        self.arrived.notify_one();
        Accepted { seq, dedup, durable }
    }

    /// Waits until an accepted message is durable; takes it back if it cannot be.
    async fn durable(&self, accepted: Accepted) -> CloudResult<()> {
        let Accepted { seq, dedup, durable } = accepted;
        let Some(durable) = durable else { return Ok(()) };
        let result = durable.await.unwrap_or_else(|_| Err(closing()));
        let mut state = self.state();
        if result.is_err() {
            state.index.remove(seq);
            if let Some(dedup) = dedup {
                state.index.forget_duplicate(&dedup);
            }
        }
        if result.is_err() || state.hot_bytes > HOT_BYTES {
            state.forget_body(seq);
        }
        result
    }

    /// One try: what can be received now, and when to look again if that is nothing.
    fn take(&self, max: usize) -> CloudResult<(Vec<Delivery>, Option<u64>)> {
        let mut state = self.state();
        let now = self.clock.now();
        let Received { taken, dead } = state.index.receive(max, now);
        for seq in dead {
            self.bury(&mut state, seq)?;
        }
        let mut out = Vec::with_capacity(taken.len());
        for taken in taken {
            let seq = taken.ticket.seq;
            let body = self.body(&state, seq)?;
            if let Some(journal) = self.journal.as_ref().filter(|_| taken.receives > 1) {
                journal.receives(&self.name, seq, taken.receives);
            }
            let receipt = self.receipt(taken.ticket);
            out.push(Delivery { body, receipt, receives: taken.receives });
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

    /// Moves a message that was received too often to the dead-letter queue, if there is one.
    fn bury(&self, state: &mut State, seq: Seq) -> CloudResult<()> {
        let body = self.body(state, seq)?;
        if let Some(dead_letter) = &self.dead_letter {
            tracing::warn!(queue = %self.name, to = %dead_letter.name, "a message was received too often: moved");
            let now = self.clock.now();
            let group = dead_letter.spec.fifo.then(|| seq.to_string());
            let kept = Kept { receives: 0, visible_at: now, group, dedup: None };
            dead_letter.store(&mut dead_letter.state(), kept, body, (now, Durable::Now));
        }
        if let Some(journal) = &self.journal {
            journal.delete(&self.name, seq);
        }
        state.forget_body(seq);
        Ok(())
    }

    /// Makes messages visible at once, because whoever received them has died.
    pub fn release(&self, receipts: impl IntoIterator<Item = Receipt>) {
        for receipt in receipts {
            let Ok(ticket) = self.ticket(&receipt) else { continue };
            let now = self.clock.now();
            if self.state().index.extend(ticket, Duration::ZERO, now).is_ok() {
                self.arrived.notify_one();
            }
        }
    }
}

/// What becomes of calls when the queue closes.
pub fn closing() -> CloudError {
    CloudError::Unavailable("the queue is closing".into())
}

#[async_trait]
impl Queue for LocalQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let accepted: Vec<_> = batch.into_iter().map(|message| self.accept(message, Durable::Now)).collect();
        let mut out = Vec::with_capacity(accepted.len());
        for accepted in accepted {
            out.push(match accepted {
                Ok(Some(accepted)) => self.durable(accepted).await,
                Ok(None) => self.flush().await, // the first may not be durable yet
                Err(error) => Err(error),
            });
        }
        out
    }

    async fn send_buffered(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        if self.state().hot_bytes > HOT_BYTES {
            return self.send(batch).await; // what is on the disk need not be in memory
        }
        batch.into_iter().map(|message| self.accept(message, Durable::Soon).map(drop)).collect()
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
            // Listening begins before the look, so that nothing that arrives in between is missed.
            let arrived = self.arrived.notified();
            let (deliveries, timer) = self.take(max)?;
            if !deliveries.is_empty() {
                // One call may have been woken for several messages: pass on that there may be more.
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
}

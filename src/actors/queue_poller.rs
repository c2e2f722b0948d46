//! Receives messages for an owner, extends them while they are in flight, and deletes them or returns them to the queue
//! at the owner's request.
//!
//! No receive is for more messages than the owner has capacity for. The owner thereby limits how many messages this
//! process holds that another could be handling. There is one long poll at a time unless [`PollerOptions::max_receives`]
//! permits more. A queue that refuses calls gets fewer of them. See `src/cloud/polling/`.

use std::{collections::HashSet, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use tokio::time::Instant;

use super::{
    actor_ref::{ActorRef, Sender},
    guardian::DeathNotice,
};
use crate::cloud::{
    CloudError, CloudResult, Delivery, MAX_BATCH, Queue, Receipt,
    polling::{BatchingWindow, FIRST, PollerOptions, ReceiverIndex, Receivers, Step, retry_delete},
};

/// Longest wait of one long poll (SQS's limit).
const LONG_POLL: Duration = Duration::from_secs(20);
/// How long a receive waits that runs beside the first one: the shortest long poll of SQS. A short poll would ask only some
/// of its servers.
const FURTHER_POLL: Duration = Duration::from_secs(1);
/// Shortest and longest pause after a failed poll; each failure doubles the pause.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Hands received messages to the owner, which must answer each receipt with [`Done`] or [`Nack`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliveries(pub Vec<Delivery>);

/// Asks the owner how many messages the next poll may return (1 to [`MAX_BATCH`]). The owner answers once it has
/// capacity.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct RequestCapacity {
    /// The last poll returned as many messages as requested.
    pub batch_was_full: bool,
    /// How long messages are to wait for each other because the queue refuses calls; zero if it does not.
    pub batching: Duration,
}

/// Reports to the owner that no message is in flight and that a final poll returned none. The poller has stopped
/// polling.
#[derive(Message)]
#[rtype(result = "()")]
pub struct QueueEmpty;

/// Reports to the owner that the poller has drained and holds no more messages.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drained;

/// Asks the poller to delete a message that has been handled.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Done(pub Receipt);

/// Asks the poller to return a message that was not handled to the queue, where it is visible after a delay.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Nack {
    /// Of the delivery.
    pub receipt: Receipt,
    /// How long nobody else gets the message.
    pub delay: Duration,
}

/// Requests a final poll: the one under way if `finish_poll` is set, otherwise a new one. If it returns no message, the
/// poller reports [`QueueEmpty`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct FinalPoll;

/// Asks the poller to stop polling, and to report [`Drained`] once every message in flight has been deleted or returned
/// to the queue.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// The actor that a poller works for.
#[derive(Clone)]
pub struct Owner {
    capacity: Sender<RequestCapacity>,
    deliveries: Sender<Deliveries>,
    /// `None` for a poller that never receives [`FinalPoll`].
    queue_empty: Option<Sender<QueueEmpty>>,
    /// `None` for an owner that does not need to know when the poller has drained.
    drained: Option<Sender<Drained>>,
}

impl Owner {
    /// Returns an owner that is told neither when its queue is empty nor when the poller has drained.
    pub fn of_endless<A>(actor: &ActorRef<A>) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<RequestCapacity> + Handler<Deliveries>,
    {
        let (capacity, deliveries) = (actor.sender(), actor.sender());
        Self { capacity, deliveries, queue_empty: None, drained: None }
    }

    /// Returns an owner that is also told when its queue is empty and when the poller has drained.
    pub fn of_draining<A>(actor: &ActorRef<A>) -> Self
    where
        A: Actor<Context = Context<A>>
            + Handler<RequestCapacity>
            + Handler<Deliveries>
            + Handler<QueueEmpty>
            + Handler<Drained>,
    {
        let (queue_empty, drained) = (Some(actor.sender()), Some(actor.sender()));
        Self { queue_empty, drained, ..Self::of_endless(actor) }
    }
}

/// Receives messages for an owner, and deletes or returns them at its request.
pub struct QueuePoller {
    queue: Arc<dyn Queue>,
    options: PollerOptions,
    receivers: Receivers<SpawnHandle>,
    /// The last poll returned as many messages as requested.
    batch_was_full: bool,
    failures: u32,
    /// How long messages wait for each other because the queue refuses calls.
    batching: BatchingWindow,
    in_flight: HashSet<Receipt>,
    /// What is to be deleted, each with the time from which a refused call is not repeated.
    to_delete: Vec<(Receipt, Instant)>,
    delete_due: bool,
    /// Calls under way that delete messages or return them to the queue.
    calls: usize,
    /// The poll under way, or otherwise the next one, is the final poll.
    final_poll: bool,
    draining: bool,
    owner: Owner,
    _notice: DeathNotice,
}

impl QueuePoller {
    /// Creates a poller that polls `queue` for `owner` as soon as it is started.
    pub fn new(queue: Arc<dyn Queue>, options: PollerOptions, owner: Owner, notice: DeathNotice) -> Self {
        Self {
            queue,
            receivers: Receivers::new(options.max_receives),
            batch_was_full: false,
            failures: 0,
            batching: BatchingWindow::new(options.visibility),
            options,
            in_flight: HashSet::new(),
            to_delete: Vec::new(),
            delete_due: false,
            calls: 0,
            final_poll: false,
            draining: false,
            owner,
            _notice: notice,
        }
    }

    /// Polls as soon as there is capacity, but not before `pause` is over.
    fn poll_after(&mut self, receiver: ReceiverIndex, pause: Duration, ctx: &mut Context<Self>) {
        if self.draining {
            return;
        }
        let (capacity, batch_was_full) = (self.owner.capacity.clone(), self.batch_was_full);
        let batching = self.batching.at(Instant::now());
        let asked = async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            // This fails while the owner is being rebuilt.
            capacity.ask(RequestCapacity { batch_was_full, batching }).await.unwrap_or(0)
        };
        let asked = ctx.spawn(asked.into_actor(self).map(move |capacity, act, ctx| match capacity {
            0 => act.poll_after(receiver, BACKOFF.0, ctx),
            _ => act.receive(receiver, capacity.min(MAX_BATCH), ctx),
        }));
        self.receivers.begin(receiver, Step::Requesting(asked));
    }

    fn receive(&mut self, receiver: ReceiverIndex, max: usize, ctx: &mut Context<Self>) {
        let wait = match receiver {
            // The final poll of a local queue does not wait.
            FIRST if self.final_poll && !self.options.finish_poll => Duration::ZERO,
            FIRST => self.options.wait.min(LONG_POLL),
            _ => self.options.wait.min(FURTHER_POLL),
        };
        let queue = self.queue.clone();
        let received = async move { queue.receive(max, wait).await }.into_actor(self);
        let poll = ctx.spawn(received.map(move |result, act, ctx| act.received(receiver, max, result, ctx)));
        self.receivers.begin(receiver, Step::Receiving(poll));
    }

    fn received(
        &mut self,
        receiver: ReceiverIndex,
        max: usize,
        result: CloudResult<Vec<Delivery>>,
        ctx: &mut Context<Self>,
    ) {
        self.receivers.end(receiver);
        if self.draining {
            let receipts: Vec<Receipt> = result.into_iter().flatten().map(|d| d.receipt).collect();
            if !receipts.is_empty() {
                self.return_to_queue(receipts, Duration::ZERO, ctx);
            }
            return self.finish_drain(ctx);
        }
        let final_poll = receiver == FIRST && std::mem::take(&mut self.final_poll);
        match result {
            Ok(batch) if batch.is_empty() && final_poll && self.in_flight.is_empty() => {
                if let Some(owner) = &self.owner.queue_empty {
                    owner.tell(QueueEmpty); // no further poll, because a drain follows
                }
            }
            Ok(batch) => {
                self.failures = 0;
                self.batch_was_full = batch.len() >= max;
                let next = self.receivers.after(receiver, batch.len(), max);
                let linger =
                    if self.batch_was_full || batch.is_empty() { Duration::ZERO } else { self.options.poll_linger };
                if !batch.is_empty() {
                    self.deliver(batch, final_poll, ctx);
                }
                if next.goes_on {
                    self.poll_after(receiver, linger, ctx);
                }
                if let Some(another) = next.another {
                    self.poll_after(another, Duration::ZERO, ctx);
                }
            }
            Err(error) => {
                if error == CloudError::Throttled {
                    self.batching.refused(Instant::now());
                }
                // The others end. What breaks the connection of one breaks all of them, and is a single failure.
                if receiver != FIRST {
                    return tracing::warn!(%error, "a further receive failed");
                }
                let pause = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
                self.failures += 1;
                tracing::warn!(%error, ?pause, "receive failed");
                self.poll_after(receiver, pause, ctx);
            }
        }
    }

    /// Hands messages to the owner.
    fn deliver(&mut self, batch: Vec<Delivery>, final_poll: bool, ctx: &mut Context<Self>) {
        if final_poll {
            tracing::info!("the final poll returned jobs: continuing");
        }
        let receipts: Vec<Receipt> = batch.iter().map(|d| d.receipt.clone()).collect();
        if self.owner.deliveries.tell(Deliveries(batch)) {
            self.in_flight.extend(receipts);
        } else {
            self.return_to_queue(receipts, Duration::ZERO, ctx); // the owner is being rebuilt
        }
    }

    /// Extends the visibility timeout of messages in flight.
    fn extend(&mut self, ctx: &mut Context<Self>) {
        let receipts: Vec<Receipt> = self.in_flight.iter().cloned().collect();
        for batch in receipts.chunks(MAX_BATCH).map(<[Receipt]>::to_vec) {
            let queue = self.queue.clone();
            let visibility = self.options.visibility;
            let extended = async move {
                let results = queue.extend(batch.iter().map(|r| (r.clone(), visibility)).collect()).await;
                batch.into_iter().zip(results).filter_map(|(r, result)| Some((r, result.err()?))).collect::<Vec<_>>()
            };
            ctx.spawn(extended.into_actor(self).map(|failed, act, _| {
                for (receipt, error) in failed {
                    tracing::warn!(%error, "extend failed");
                    if let CloudError::Conflict(_) | CloudError::NotFound(_) = error {
                        act.in_flight.remove(&receipt); // it has expired: another receiver may have the message
                    }
                }
            }));
        }
    }

    fn delete_buffered(&mut self, ctx: &mut Context<Self>) {
        if self.to_delete.len() >= MAX_BATCH || self.draining {
            self.delete(ctx);
        } else {
            self.delete_later(self.options.delete_linger.max(self.batching.at(Instant::now())), ctx);
        }
    }

    fn delete_later(&mut self, linger: Duration, ctx: &mut Context<Self>) {
        if !self.to_delete.is_empty() && !std::mem::replace(&mut self.delete_due, true) {
            ctx.run_later(linger, |act, ctx| {
                act.delete_due = false;
                act.delete(ctx);
            });
        }
    }

    fn delete(&mut self, ctx: &mut Context<Self>) {
        while !self.to_delete.is_empty() {
            let batch: Vec<_> = self.to_delete.drain(..self.to_delete.len().min(MAX_BATCH)).collect();
            let queue = self.queue.clone();
            let deleted = async move {
                let results = queue.delete(batch.iter().map(|(receipt, _)| receipt.clone()).collect()).await;
                batch.into_iter().zip(results).filter_map(|(entry, result)| Some((entry, result.err()?))).collect()
            };
            self.calls += 1;
            ctx.spawn(deleted.into_actor(self).map(|failed: Vec<_>, act, ctx| {
                act.calls -= 1;
                act.not_deleted(failed, ctx);
                act.finish_drain(ctx);
            }));
        }
    }

    /// Deletes what could not be deleted because the queue refused the call, later and with others.
    fn not_deleted(&mut self, failed: Vec<((Receipt, Instant), CloudError)>, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if failed.iter().any(|(_, error)| *error == CloudError::Throttled) {
            self.batching.refused(now);
        }
        for (entry, error) in failed {
            if retry_delete(&error, entry.1, now) {
                self.to_delete.push(entry);
            } else {
                tracing::warn!(%error, "delete failed: the message may be delivered again");
            }
        }
        self.delete_later(self.batching.at(now), ctx);
    }

    /// Makes messages visible again. If this fails, they become visible after the visibility timeout.
    fn return_to_queue(&mut self, receipts: Vec<Receipt>, delay: Duration, ctx: &mut Context<Self>) {
        let queue = self.queue.clone();
        self.call(ctx, async move {
            queue.extend(receipts.into_iter().map(|r| (r, delay)).collect()).await;
        });
    }

    fn call(&mut self, ctx: &mut Context<Self>, future: impl Future<Output = ()> + 'static) {
        self.calls += 1;
        ctx.spawn(future.into_actor(self).map(|(), act, ctx| {
            act.calls -= 1;
            act.finish_drain(ctx);
        }));
    }

    fn finish_drain(&mut self, ctx: &mut Context<Self>) {
        let nothing_in_flight = self.in_flight.is_empty() && self.to_delete.is_empty();
        if self.draining && nothing_in_flight && self.calls == 0 && self.receivers.receiving() == 0 {
            if let Some(owner) = &self.owner.drained {
                owner.tell(Drained);
            }
            ctx.stop();
        }
    }
}

impl Actor for QueuePoller {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(self.options.visibility / 3, Self::extend);
        self.poll_after(FIRST, Duration::ZERO, ctx);
    }
}

impl Handler<Done> for QueuePoller {
    type Result = ();
    fn handle(&mut self, Done(receipt): Done, ctx: &mut Self::Context) {
        self.in_flight.remove(&receipt);
        self.to_delete.push((receipt, Instant::now() + self.options.visibility / 2));
        self.delete_buffered(ctx);
    }
}

impl Handler<Nack> for QueuePoller {
    type Result = ();
    fn handle(&mut self, Nack { receipt, delay }: Nack, ctx: &mut Self::Context) {
        self.in_flight.remove(&receipt);
        self.return_to_queue(vec![receipt], delay, ctx);
    }
}

impl Handler<FinalPoll> for QueuePoller {
    type Result = ();
    fn handle(&mut self, _: FinalPoll, ctx: &mut Self::Context) {
        if self.draining || !self.in_flight.is_empty() {
            return; // jobs have arrived in the meantime
        }
        self.final_poll = true; // messages that it returns are handled, not dropped
        if !self.options.finish_poll
            && let Some(poll) = self.receivers.cancel_poll(FIRST)
        {
            ctx.cancel_future(poll);
            self.poll_after(FIRST, Duration::ZERO, ctx);
        }
    }
}

impl Handler<Drain> for QueuePoller {
    type Result = ();
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.draining = true;
        for step in self.receivers.cancel(!self.options.finish_poll) {
            ctx.cancel_future(step);
        }
        self.delete(ctx);
        self.finish_drain(ctx);
    }
}

#[cfg(test)]
mod scale_tests;
#[cfg(test)]
mod tests;

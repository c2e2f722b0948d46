//! Receives messages for an owner, extends them while they are in flight, and deletes them or returns them to the queue
//! at the owner's request.
//!
//! There is one long poll at a time, never for more messages than the owner has capacity for. The owner thereby limits
//! how many messages this process holds that another could be handling.

use std::{collections::HashSet, sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};

use super::{
    actor_ref::{ActorRef, Sender},
    guardian::DeathNotice,
};
use crate::cloud::{CloudError, CloudResult, Delivery, MAX_BATCH, Queue, Receipt};

/// Longest wait of one long poll (SQS's limit).
const LONG_POLL: Duration = Duration::from_secs(20);
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

/// How a poller treats its queue.
#[derive(Clone, Debug)]
pub struct PollerOptions {
    /// The queue's visibility timeout. Every third of it, the poller renews it in full for the messages in flight.
    pub visibility: Duration,
    /// How long a delete may wait for others to share its call.
    pub delete_linger: Duration,
    /// How long the next poll is delayed after one that returned some messages, but fewer than requested.
    pub poll_linger: Duration,
    /// Longest long poll, at most [`LONG_POLL`].
    pub wait: Duration,
    /// Whether a drain or a final poll lets the poll under way finish instead of dropping it: the messages that a
    /// remote queue returns to a dropped poll stay hidden until their visibility timeout.
    pub finish_poll: bool,
}

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
    /// The pause and the request for capacity before the next poll.
    next: Option<SpawnHandle>,
    poll: Option<SpawnHandle>,
    /// The last poll returned as many messages as requested.
    batch_was_full: bool,
    failures: u32,
    in_flight: HashSet<Receipt>,
    to_delete: Vec<Receipt>,
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
            options,
            next: None,
            poll: None,
            batch_was_full: false,
            failures: 0,
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
    fn poll_after(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        if self.draining {
            return;
        }
        let (capacity, batch_was_full) = (self.owner.capacity.clone(), self.batch_was_full);
        let asked = async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            // This fails while the owner is being rebuilt.
            capacity.ask(RequestCapacity { batch_was_full }).await.unwrap_or(0)
        };
        self.next = Some(ctx.spawn(asked.into_actor(self).map(|capacity, act, ctx| {
            act.next = None;
            match capacity {
                0 => act.poll_after(BACKOFF.0, ctx),
                _ => act.receive(capacity.min(MAX_BATCH), ctx),
            }
        })));
    }

    fn receive(&mut self, max: usize, ctx: &mut Context<Self>) {
        // The final poll of a local queue does not wait.
        let wait = if self.final_poll && !self.options.finish_poll { Duration::ZERO } else { self.options.wait };
        let (queue, wait) = (self.queue.clone(), wait.min(LONG_POLL));
        let received = async move { queue.receive(max, wait).await }.into_actor(self);
        self.poll = Some(ctx.spawn(received.map(move |result, act, ctx| act.received(max, result, ctx))));
    }

    fn received(&mut self, max: usize, result: CloudResult<Vec<Delivery>>, ctx: &mut Context<Self>) {
        self.poll = None;
        if self.draining {
            let receipts: Vec<Receipt> = result.into_iter().flatten().map(|d| d.receipt).collect();
            if !receipts.is_empty() {
                self.return_to_queue(receipts, Duration::ZERO, ctx);
            }
            return self.finish_drain(ctx);
        }
        let final_poll = std::mem::take(&mut self.final_poll);
        match result {
            Ok(batch) if batch.is_empty() && final_poll && self.in_flight.is_empty() => {
                if let Some(owner) = &self.owner.queue_empty {
                    owner.tell(QueueEmpty); // no further poll, because a drain follows
                }
            }
            Ok(batch) => {
                self.failures = 0;
                self.batch_was_full = batch.len() >= max;
                if batch.is_empty() {
                    return self.poll_after(Duration::ZERO, ctx);
                }
                if final_poll {
                    tracing::info!("the final poll returned jobs: continuing");
                }
                let receipts: Vec<Receipt> = batch.iter().map(|d| d.receipt.clone()).collect();
                if self.owner.deliveries.tell(Deliveries(batch)) {
                    self.in_flight.extend(receipts);
                } else {
                    self.return_to_queue(receipts, Duration::ZERO, ctx); // the owner is being rebuilt
                }
                let linger = if self.batch_was_full { Duration::ZERO } else { self.options.poll_linger };
                self.poll_after(linger, ctx);
            }
            Err(error) => {
                let pause = BACKOFF.0.saturating_mul(1 << self.failures.min(10)).min(BACKOFF.1);
                self.failures += 1;
                tracing::warn!(%error, ?pause, "receive failed");
                self.poll_after(pause, ctx);
            }
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
        } else if !self.delete_due && !self.to_delete.is_empty() {
            self.delete_due = true;
            ctx.run_later(self.options.delete_linger, |act, ctx| {
                act.delete_due = false;
                act.delete(ctx);
            });
        }
    }

    fn delete(&mut self, ctx: &mut Context<Self>) {
        while !self.to_delete.is_empty() {
            let batch: Vec<Receipt> = self.to_delete.drain(..self.to_delete.len().min(MAX_BATCH)).collect();
            let queue = self.queue.clone();
            self.call(ctx, async move {
                for error in queue.delete(batch).await.into_iter().filter_map(Result::err) {
                    tracing::warn!(%error, "delete failed: the message may be delivered again");
                }
            });
        }
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
        if self.draining && nothing_in_flight && self.calls == 0 && self.poll.is_none() {
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
        self.poll_after(Duration::ZERO, ctx);
    }
}

impl Handler<Done> for QueuePoller {
    type Result = ();
    fn handle(&mut self, Done(receipt): Done, ctx: &mut Self::Context) {
        self.in_flight.remove(&receipt);
        self.to_delete.push(receipt);
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
            && let Some(poll) = self.poll.take()
        {
            ctx.cancel_future(poll);
            self.poll_after(Duration::ZERO, ctx);
        }
    }
}

impl Handler<Drain> for QueuePoller {
    type Result = ();
    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        self.draining = true;
        if let Some(next) = self.next.take() {
            ctx.cancel_future(next);
        }
        if !self.options.finish_poll
            && let Some(poll) = self.poll.take()
        {
            ctx.cancel_future(poll);
        }
        self.delete(ctx);
        self.finish_drain(ctx);
    }
}

#[cfg(test)]
mod tests;

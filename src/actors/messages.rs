//! Only what crosses actors. A message to oneself stays in its actor's file.

use std::time::Duration;

use actix::{Message, Recipient};

use crate::{
    cloud::{Delivery, InstanceId, Receipt},
    wire::{JobId, Reply},
};

/// To the router: `to` waits for the reply to job `id`. Answered once it is on the list, so that the job may be sent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register {
    pub id: JobId,
    pub to: Recipient<Answer>,
}

/// To the router: `to` no longer waits.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forget {
    pub id: JobId,
    pub to: Recipient<Answer>,
}

/// From the router to the request that waits.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Answer(pub Reply);

/// From a poller: messages received. Each receipt is owed a [`Done`] or an [`Nack`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliveries(pub Vec<Delivery>);

/// From a poller: how many messages may the next poll bring (1 to [`BATCH`](super::queue_poller::BATCH))? Answered when
/// there is room.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct RequestCapacity {
    /// The last poll brought as many as it asked for.
    pub batch_was_full: bool,
}

/// To a poller: the message is dealt with and can be deleted.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Done(pub Receipt);

/// To a poller: the message was not dealt with and shall be delivered again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Nack(pub Receipt);

/// To a poller: look once more, and say [`QueueEmpty`] if there is no work after all.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FinalPoll;

/// From a poller: nothing in hand, and nothing came at a last look. It receives no more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct QueueEmpty;

/// To a poller: receive no more, delete what is done, then say [`Drained`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drain;

/// From a poller: it holds nothing any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Drained;

/// To the idle timer: one more job in hand.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Busy;

/// To the idle timer: one job less.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Idle;

/// From the idle timer: there has been nothing to do for `worker.idle_stop`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct IdleExpired;

/// To the fleet: uploads that wait in this process now. Sent with each upload, so that growing never waits for a poll.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DemandHint {
    pub waiting: u64,
}

/// To the fleet: a worker has finished `jobs`, which took it `busy` in all. From the router, once a batch of replies.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Served {
    pub worker: InstanceId,
    pub jobs: u64,
    pub busy: Duration,
}

/// To the fleet: the process is ending, start nothing any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire;

/// To the guardian: an actor is gone, by stopping or by a panic.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Died {
    pub name: &'static str,
}

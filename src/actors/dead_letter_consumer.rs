//! Consumes the dead-letter queue: the jobs that it receives are kept in the store, their results are failures, and
//! requests that still wait for them get the failure as the reply.

use std::{rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use metrics::counter;

use super::{
    actor_ref::Sender,
    guardian::DeathNotice,
    queue_poller::{Deliveries, Done, Nack, RequestCapacity},
};
use crate::{
    cloud::{CloudResult, Delivery, MAX_BATCH},
    job::{Failure, FailureKind, Job, JobId, JobKind, Reply, Retention},
    results::ResultStore,
    wire::{self, WireError},
    worker::reply_sender::ReplySender,
};

/// Pause before a dead letter that could not be stored is returned to the queue.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the consumer needs.
pub struct Options {
    /// The store of results and dead letters.
    pub results: ResultStore,
    /// Sends the replies.
    pub replies: ReplySender,
    /// Returns what is kept of jobs of a kind, as their handler does.
    pub retention: fn(JobKind) -> Retention,
    /// Receives after which the queue gives up a job, for the reason that people read.
    pub max_receives: u32,
    /// Pause before each poll of the queue, except after one that returned messages.
    pub pause: Duration,
    /// Called for each dead letter that has been stored, before its message is deleted. If the process dies in between, the
    /// message is received again, and so is this called again.
    pub on_stored: Arc<dyn Fn() + Send + Sync>,
}

impl Options {
    /// Keeps a job that was given up, if anything is kept of its kind, and replies.
    async fn bury(&self, delivery: &Delivery) -> CloudResult<()> {
        let job: Job = match wire::from_bytes(&delivery.body) {
            Ok(job) => job,
            Err(error) => return self.bury_unreadable(delivery, &error).await,
        };
        let reason = match self.max_receives {
            1 => "given up after one attempt: the worker died or returned the job".to_owned(),
            many => format!("given up after {many} attempts: each time, the worker died or returned the job"),
        };
        let failure = Failure::new(FailureKind::Internal, reason);
        match (self.retention)(job.kind) {
            Retention::Discard => {
                tracing::error!(id = %job.id, "job given up");
                self.results.delete_payload(&job.payload).await?;
            }
            Retention::Keep if self.results.bury(&job, delivery.body.clone(), &failure).await? => {
                self.count();
                tracing::error!(id = %job.id, "job given up: it is a dead letter (`rollcall dead`)");
            }
            Retention::Keep => return Ok(()),
        }
        let reply = Reply { id: job.id, outcome: Err(failure), worker: String::new(), worker_ms: 0.0 };
        if let Err(error) = self.replies.send(&job.reply_to, &reply).await {
            tracing::warn!(%error, id = %job.id, "failed to reply to a job that was given up");
        }
        Ok(())
    }

    fn count(&self) {
        counter!("rollcall_dead_letters_total").increment(1);
        (self.on_stored)();
    }

    /// Keeps a job that this program cannot read, for example because a newer one has sent it: each is a group of its own,
    /// which is called like its id. Logs and drops a message without an id, because it is not one of Rollcall's.
    async fn bury_unreadable(&self, delivery: &Delivery, error: &WireError) -> CloudResult<()> {
        let Some(id) = delivery.group.as_deref().and_then(|group| group.parse::<JobId>().ok()) else {
            tracing::error!(%error, "dead letter dropped: it is not a job");
            return Ok(());
        };
        let failure = Failure::new(FailureKind::Internal, format!("given up: no worker could read the job ({error})"));
        if self.results.bury_unreadable(id, delivery.body.clone(), &failure).await? {
            self.count();
            tracing::error!(%error, %id, "job given up: it is a dead letter (`rollcall dead`)");
        }
        Ok(())
    }
}

/// Consumes the dead-letter queue.
pub struct DeadLetterConsumer {
    options: Rc<Options>,
    /// The last poll returned messages.
    busy: bool,
    done: Sender<Done>,
    nack: Sender<Nack>,
    _notice: DeathNotice,
}

impl DeadLetterConsumer {
    /// Creates a consumer that answers the poller of its queue through `done` and `nack`.
    pub fn new(options: Rc<Options>, done: Sender<Done>, nack: Sender<Nack>, notice: DeathNotice) -> Self {
        Self { options, busy: false, done, nack, _notice: notice }
    }
}

impl Actor for DeadLetterConsumer {
    type Context = Context<Self>;
}

impl Handler<RequestCapacity> for DeadLetterConsumer {
    type Result = ResponseFuture<usize>;
    fn handle(&mut self, _: RequestCapacity, _: &mut Self::Context) -> Self::Result {
        let pause = if std::mem::take(&mut self.busy) { Duration::ZERO } else { self.options.pause };
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            MAX_BATCH
        })
    }
}

impl Handler<Deliveries> for DeadLetterConsumer {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, ctx: &mut Self::Context) {
        self.busy = true;
        for delivery in batch {
            let (options, done, nack) = (self.options.clone(), self.done.clone(), self.nack.clone());
            let buried = async move {
                match options.bury(&delivery).await {
                    Ok(()) => done.tell(Done(delivery.receipt)),
                    Err(error) => {
                        tracing::error!(%error, "dead letter not stored: trying again later");
                        tokio::time::sleep(RETRY_AFTER).await;
                        nack.tell(Nack { receipt: delivery.receipt, delay: Duration::ZERO })
                    }
                };
            };
            ctx.spawn(buried.into_actor(self));
        }
    }
}

//! Submits one job and waits for its reply or its deadline.
//!
//! The actor registers with the router before it sends the job. The reply reaches the router later, through the same
//! mailbox, so it cannot overtake the registration. The outcome is sent through a oneshot channel. If the client
//! disconnects, the actor stops ([`HangUp`]) and the job continues.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

use super::{
    actor_ref::Sender,
    reply_router::{Forget, Register, Routed},
};
use crate::{
    cloud::{CloudError, Message, Queue, headroom::Shortage},
    job::{JobId, Reply, Retention},
    results::{ResultStore, Status, Stored, promises},
};

/// How often a request that may be a retry looks for the result in the store. If it is one, the queue drops its job as a
/// duplicate, and the reply may already have gone to the first request.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Why a request ended without a reply.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// There is no capacity: 503 with `Retry-After`.
    #[error("busy: {reason}; try again in {} s", retry_after.as_secs())]
    Overloaded {
        /// Why there is no capacity.
        reason: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The queue or the disk is full: 503 with `Retry-After`.
    #[error("{0}; try again later")]
    Full(#[from] Shortage),
    /// The queue or the store failed: 503.
    #[error("the queue or the store failed: {0}")]
    Cloud(#[from] CloudError),
    /// The result of this job has been deleted: 410.
    #[error("the result {id} has been deleted; to run the job again, use another Idempotency-Key")]
    Deleted {
        /// The job.
        id: JobId,
    },
    /// The deadline has passed: 504. The job continues; its result will be available under the id.
    #[error("no answer within {} s; ask for the result by its id {id}", waited.as_secs())]
    Deadline {
        /// The job.
        id: JobId,
        /// How long the request waited.
        waited: Duration,
    },
    /// The deadline has passed, and no result is promised, because nothing is kept of the job or it was not sent: 504.
    #[error("no answer within {} s; try again", waited.as_secs())]
    Unanswered {
        /// How long the request waited.
        waited: Duration,
    },
    /// The server is shutting down, and the job was not submitted: 503.
    #[error("this server is shutting down; try again")]
    ShuttingDown,
    /// The server has stopped waiting for the reply: 503. If the job was submitted, it continues.
    #[error("this server has stopped waiting for the job {id}, which may continue; {}", match retention {
        Retention::Keep => "ask for the result by its id",
        Retention::Discard => "try again",
    })]
    Abandoned {
        /// The job.
        id: JobId,
        /// What is kept of the job.
        retention: Retention,
    },
}

/// What a request needs from its node.
#[derive(Clone)]
pub struct Ports {
    /// The request queue.
    pub requests: Arc<dyn Queue>,
    /// The stored results.
    pub results: ResultStore,
    /// Registers a request with the reply router.
    pub register: Sender<Register>,
    /// Removes a request from the reply router.
    pub forget: Sender<Forget>,
}

/// A job for whose reply a client waits.
pub struct Request {
    /// The job.
    pub id: JobId,
    /// The job as a message.
    pub message: Message,
    /// File name, for the pending result if the job outlives the request.
    pub file: String,
    /// What is kept of the job.
    pub retention: Retention,
    /// How long to wait for the reply.
    pub deadline: Duration,
    /// Whether an earlier request may have submitted the job: if so, the store is read before the job is sent and
    /// periodically afterwards.
    pub may_be_retry: bool,
}

impl Request {
    /// Submits the job and waits for its reply or its deadline. If the returned future is dropped, because the client
    /// has disconnected, the actor stops.
    ///
    /// # Errors
    /// The job was not submitted, its result has been deleted, or no reply has arrived.
    pub async fn submit(self, ports: Ports) -> Result<Reply, SubmitError> {
        let (id, retention) = (self.id, self.retention);
        let (sender, outcome) = oneshot::channel();
        let request = WebRequest { request: self, ports, outcome: Some(sender), registered: false, sent: false };
        let _hang_up = HangUpOnDrop(request.start());
        outcome.await.unwrap_or(Err(SubmitError::Abandoned { id, retention }))
    }
}

/// Submits one job and waits for its reply or its deadline.
struct WebRequest {
    /// The job; its message is taken when it is sent.
    request: Request,
    ports: Ports,
    /// Receives the outcome; taken when it is sent.
    outcome: Option<oneshot::Sender<Result<Reply, SubmitError>>>,
    /// Whether the router knows this request.
    registered: bool,
    /// Whether the queue has accepted the job, possibly as a duplicate.
    sent: bool,
}

/// Notifies the request that its client is gone. Dropped together with the client's future.
struct HangUpOnDrop(Addr<WebRequest>);

impl Drop for HangUpOnDrop {
    fn drop(&mut self) {
        self.0.do_send(HangUp);
    }
}

impl WebRequest {
    fn finish(&mut self, outcome: Result<Reply, SubmitError>, ctx: &mut Context<Self>) {
        if let Some(to) = self.outcome.take() {
            let _ = to.send(outcome); // the client may be gone
        }
        ctx.stop();
    }

    fn submit(&mut self, ctx: &mut Context<Self>) {
        let message = std::mem::take(&mut self.request.message);
        let (id, may_be_retry, ports) = (self.request.id, self.request.may_be_retry, self.ports.clone());
        if !ports.register.tell(Register { id, to: ctx.address().recipient() }) {
            return self.finish(Err(SubmitError::ShuttingDown), ctx);
        }
        self.registered = true;
        let sent = async move {
            if may_be_retry && let Some(reply) = stored_reply(&ports.results, id).await? {
                return Ok(Some(reply));
            }
            // Nothing is promised to the client before the outcome is sent, so the job need not be durable yet.
            let result = ports.requests.send_buffered(vec![message]).await.pop();
            result.unwrap_or_else(|| Err(CloudError::Unavailable("the queue returned no result".into())))?;
            Ok(None)
        };
        ctx.spawn(sent.into_actor(self).map(
            |result, act, ctx| match result.inspect(|reply| act.sent = reply.is_none()) {
                Ok(None) if act.request.may_be_retry => act.read_later(ctx),
                Ok(None) => {} // wait for the reply or the deadline
                Ok(Some(reply)) => act.finish(Ok(reply), ctx),
                Err(error) => act.finish(Err(error), ctx),
            },
        ));
    }

    fn read_later(&mut self, ctx: &mut Context<Self>) {
        let (id, results) = (self.request.id, self.ports.results.clone());
        let read = async move {
            tokio::time::sleep(READ_EVERY).await;
            stored_reply(&results, id).await
        };
        ctx.spawn(read.into_actor(self).map(|found, act, ctx| match found {
            Ok(Some(reply)) => act.finish(Ok(reply), ctx),
            Ok(None) => act.read_later(ctx),
            Err(error @ SubmitError::Deleted { .. }) => act.finish(Err(error), ctx),
            Err(error) => {
                tracing::warn!(%error, id = %act.request.id, "result not read");
                act.read_later(ctx);
            }
        }));
    }

    /// Ends the request at its deadline. Unless nothing is kept of the job ([`Retention::Discard`]), or it has not been
    /// sent yet, it reads the store first, because the reply may have been lost after its result was stored. If there is no result, the client is
    /// promised one.
    fn expire(&mut self, ctx: &mut Context<Self>) {
        let Request { id, deadline: waited, retention, ref file, .. } = self.request;
        if retention == Retention::Discard || !self.sent {
            return self.finish(Err(SubmitError::Unanswered { waited }), ctx);
        }
        let (results, file) = (self.ports.results.clone(), file.clone());
        let requests = self.ports.requests.clone();
        let read = async move {
            match stored_reply(&results, id).await {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error @ SubmitError::Deleted { .. }) => return Err(error),
                Err(error) => tracing::warn!(%error, %id, "result not read"),
            }
            match promises::promise_at_deadline(&*requests, &results, id, file).await? {
                Status::Deleted => Err(SubmitError::Deleted { id }),
                _ => Err(SubmitError::Deadline { id, waited }),
            }
        };
        ctx.spawn(read.into_actor(self).map(|outcome, act, ctx| act.finish(outcome, ctx)));
    }
}

/// Returns the stored result of a finished job as a reply.
async fn stored_reply(results: &ResultStore, id: JobId) -> Result<Option<Reply>, SubmitError> {
    match results.stored(id).await? {
        Stored::Deleted(_) => Err(SubmitError::Deleted { id }),
        Stored::Absent => Ok(None),
        Stored::Result(result) => Ok(result.reply(id)),
    }
}

impl Actor for WebRequest {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.submit(ctx);
        ctx.run_later(self.request.deadline, Self::expire);
    }

    fn stopped(&mut self, ctx: &mut Self::Context) {
        if self.registered {
            self.ports.forget.tell(Forget { id: self.request.id, to: ctx.address().recipient() });
        }
    }
}

impl Handler<Routed> for WebRequest {
    type Result = ();
    fn handle(&mut self, Routed(reply): Routed, ctx: &mut Self::Context) {
        self.registered = false; // the router has forgotten all requests for this job
        self.finish(Ok(reply), ctx);
    }
}

/// Tells a request that its client has disconnected.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct HangUp;

impl Handler<HangUp> for WebRequest {
    type Result = ();
    fn handle(&mut self, _: HangUp, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests;

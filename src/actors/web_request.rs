//! One upload: waits for the reply to its job, or its deadline.
//!
//! It is on the router's list before its job is sent, so that no reply can come too early. The answer goes out by a
//! oneshot channel; when the client has gone, so does the actor ([`HangUp`]), and the job goes on.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

use super::{
    guardian::Link,
    messages::{Answer, Forget, Register},
    web_tier::SubmitError,
};
use crate::{
    cloud::{CloudError, Message, Queue},
    results::ResultStore,
    wire::{JobId, Reply},
};

/// How often a retried request looks for a stored result. The queue drops its job as a duplicate, and the reply may have
/// gone to the first try already, before its result was stored.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a request needs of its node.
#[derive(Clone)]
pub struct Ports {
    pub listener: Arc<dyn Queue>,
    pub results: ResultStore,
    pub register: Link<Register>,
    pub forget: Link<Forget>,
}

/// See the module.
pub struct WebRequest {
    pub id: JobId,
    /// The job as a message; taken when it is sent.
    pub message: Option<Message>,
    /// File name, for the record of a job that outlives its request.
    pub file: String,
    pub deadline: Duration,
    /// A result may be stored already, or while this waits: look before sending, and now and then.
    pub retried: bool,
    pub ports: Ports,
    pub answer: Option<oneshot::Sender<Result<Reply, SubmitError>>>,
}

impl WebRequest {
    fn finish(&mut self, answer: Result<Reply, SubmitError>, ctx: &mut Context<Self>) {
        if let Some(to) = self.answer.take() {
            let _ = to.send(answer); // the client may have gone
        }
        ctx.stop();
    }

    fn submit(&mut self, ctx: &mut Context<Self>) {
        let Some(message) = self.message.take() else { return };
        let (id, retried, ports) = (self.id, self.retried, self.ports.clone());
        let me = ctx.address().recipient();
        let sent = async move {
            if ports.register.ask(Register { id, to: me }).await.is_err() {
                return Err(SubmitError::Closed { id });
            }
            if retried && let Some(reply) = ports.results.reply(id).await? {
                return Ok(Some(reply));
            }
            // Until there is an answer the client knows nothing of the job: it need not be durable yet.
            let result = ports.listener.send_buffered(vec![message]).await.pop();
            result.unwrap_or_else(|| Err(CloudError::Unavailable("the queue did not answer".into())))?;
            Ok(None)
        };
        ctx.spawn(sent.into_actor(self).map(|result, act, ctx| match result {
            Ok(None) if act.retried => act.look_later(ctx),
            Ok(None) => {} // now the reply or the deadline
            Ok(Some(reply)) => act.finish(Ok(reply), ctx),
            Err(error) => act.finish(Err(error), ctx),
        }));
    }

    fn look_later(&mut self, ctx: &mut Context<Self>) {
        let (id, results) = (self.id, self.ports.results.clone());
        let look = async move {
            tokio::time::sleep(LOOK_EVERY).await;
            results.reply(id).await
        };
        ctx.spawn(look.into_actor(self).map(|found, act, ctx| match found {
            Ok(Some(reply)) => act.finish(Ok(reply), ctx),
            Ok(None) => act.look_later(ctx),
            Err(error) => {
                tracing::warn!(%error, id = %act.id, "record not read");
                act.look_later(ctx);
            }
        }));
    }

    /// The reply may have gone astray while its result was stored: look once, then leave a note that the job is pending,
    /// so that whoever asks for the id is not told that there is no such job.
    fn expire(&mut self, ctx: &mut Context<Self>) {
        let (id, waited) = (self.id, self.deadline);
        let (results, file) = (self.ports.results.clone(), self.file.clone());
        let listener = self.ports.listener.clone();
        let looked = async move {
            match results.reply(id).await {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {
                    if let Err(error) = results.pending(id, file).await {
                        tracing::warn!(%error, %id, "pending record not stored");
                    }
                }
                Err(error) => tracing::warn!(%error, %id, "record not read"),
            }
            listener.flush().await?; // the id is a promise
            Err(SubmitError::Deadline { id, waited })
        };
        ctx.spawn(looked.into_actor(self).map(|answer, act, ctx| act.finish(answer, ctx)));
    }
}

impl Actor for WebRequest {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.submit(ctx);
        ctx.run_later(self.deadline, Self::expire);
    }

    fn stopped(&mut self, ctx: &mut Self::Context) {
        self.ports.forget.tell(Forget { id: self.id, to: ctx.address().recipient() });
    }
}

impl Handler<Answer> for WebRequest {
    type Result = ();
    fn handle(&mut self, Answer(reply): Answer, ctx: &mut Self::Context) {
        self.finish(Ok(reply), ctx);
    }
}

/// The client has gone.
#[derive(actix::Message)]
#[rtype(result = "()")]
pub struct HangUp;

impl Handler<HangUp> for WebRequest {
    type Result = ();
    fn handle(&mut self, _: HangUp, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

#[cfg(test)]
mod tests;

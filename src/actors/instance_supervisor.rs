//! Root of an app instance: it takes jobs from the poller, has them recognised, answers, keeps the results, and ends
//! when there has been nothing to do, when it is told to, or when the cloud takes the instance away.
//!
//! The reply goes out before the results are stored, because somebody waits for it; the job is deleted after both, so
//! a death in between repeats the job instead of losing its result.

use std::{pin::pin, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, System, WrapFuture};
use tokio::sync::{Semaphore, oneshot};

use super::{
    guardian::{Link, StandDown},
    job::JobRunner,
    messages::{Abandon, Busy, Capacity, Deliveries, Done, Drain, Drained, Idle, IdleExpired, LookOnce, Quiet},
};
use crate::cloud::Metadata;

/// Exit code of a worker that could not finish its jobs in `worker.drain_timeout` (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_UNFINISHED: i32 = 75;
/// Exit code of a worker that has lost its cloud, or could not have its instance stopped (`EX_UNAVAILABLE` of sysexits.h).
/// Its unit on AWS powers the machine off then.
pub const EXIT_UNAVAILABLE: i32 = 69;
/// Pause between two looks for an interruption notice (EC2 gives two minutes).
const INTERRUPTION_EVERY: Duration = Duration::from_secs(5);

/// How long before an inference is usually done the next job is asked for, so that it is there when it can be begun: the
/// time of a receive from a queue nearby. A worker holds a job that it has not begun for about as long.
const LEAD: Duration = Duration::from_millis(5);

/// Ways to the actors of the instance.
#[derive(Clone, Default)]
pub struct Links {
    pub deliveries: Link<Deliveries>,
    pub capacity: Link<Capacity>,
    pub done: Link<Done>,
    pub abandon: Link<Abandon>,
    pub look_once: Link<LookOnce>,
    pub quiet: Link<Quiet>,
    pub drain: Link<Drain>,
    pub drained: Link<Drained>,
    pub busy: Link<Busy>,
    pub idle: Link<Idle>,
    pub idle_expired: Link<IdleExpired>,
    pub stand_down: Link<StandDown>,
}

/// Why an instance ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing to do for `worker.idle_stop`.
    Idle,
    /// SIGTERM, SIGINT.
    Asked,
    /// The cloud announced that it takes the instance away.
    Interrupted(String),
}

/// Finish what is in hand and end.
#[derive(Message)]
#[rtype(result = "()")]
pub struct End(pub Why);

/// See the module.
pub struct InstanceSupervisor {
    runner: Arc<JobRunner>,
    metadata: Arc<dyn Metadata>,
    links: Links,
    drain_timeout: Duration,
    /// Finished images whose reply or results are being written. Bounds how far inference runs ahead of a slow store.
    tail: Arc<Semaphore>,
    ending: Option<Why>,
}

impl InstanceSupervisor {
    /// `threads`: the inference threads of `runner`'s pool.
    pub fn new(
        runner: JobRunner,
        threads: usize,
        metadata: Arc<dyn Metadata>,
        links: Links,
        drain_timeout: Duration,
    ) -> Self {
        let tail = Arc::new(Semaphore::new(8 * threads));
        Self { runner: Arc::new(runner), metadata, links, drain_timeout, tail, ending: None }
    }

    fn end(&mut self, why: Why, ctx: &mut Context<Self>) {
        if self.ending.is_some() {
            return;
        }
        tracing::info!(?why, "draining");
        self.ending = Some(why);
        self.links.stand_down.tell(StandDown);
        self.links.drain.tell(Drain);
        ctx.run_later(self.drain_timeout, |_, _| {
            tracing::error!("jobs in hand did not finish in time: leaving them to others");
            System::current().stop_with_code(EXIT_UNFINISHED);
        });
    }
}

impl Actor for InstanceSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(INTERRUPTION_EVERY, |act, ctx| {
            let metadata = act.metadata.clone();
            let asked = async move { metadata.interruption().await }.into_actor(act);
            ctx.spawn(asked.map(|answer, act, ctx| match answer {
                Ok(None) => {}
                Ok(Some(notice)) => act.end(Why::Interrupted(notice.reason), ctx),
                Err(error) => tracing::warn!(%error, "interruption notice not read"),
            }));
        });
    }
}

/// Resolves shortly before an inference that has begun will usually be done.
async fn nearly_done(runner: &JobRunner, begun: oneshot::Receiver<()>) {
    if begun.await.is_err() {
        return std::future::pending().await; // there was none
    }
    match runner.usual.get().checked_sub(LEAD) {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await, // too short to be worth it, or nothing is known yet
    }
}

impl Handler<Deliveries> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, ctx: &mut Self::Context) {
        for delivery in batch {
            self.links.busy.tell(Busy);
            let (runner, links, tail) = (self.runner.clone(), self.links.clone(), self.tail.clone());
            let job = async move {
                let receipt = delivery.receipt.clone();
                let (told, begun) = oneshot::channel();
                let mut recognised = pin!(runner.recognise(delivery, told));
                let (finished, asked) = tokio::select! {
                    finished = &mut recognised => (finished, false),
                    () = nearly_done(&runner, begun), if tail.available_permits() > 0 => {
                        links.capacity.tell(Capacity(1));
                        (recognised.await, true)
                    }
                };
                let permit = tail.acquire().await;
                if !asked {
                    links.capacity.tell(Capacity(1));
                }
                let settled = match finished {
                    Some(finished) => runner.settle(finished).await,
                    None => Ok(()),
                };
                drop(permit);
                // The disk may be slow: nothing of the image is held any more, and inference goes on.
                let durable = match settled {
                    Ok(()) => runner.flush().await,
                    error => error,
                };
                match durable {
                    Ok(()) => links.done.tell(Done(receipt)),
                    Err(error) => {
                        tracing::error!(%error, "job not finished: it will be done again");
                        links.abandon.tell(Abandon(receipt))
                    }
                };
                links.idle.tell(Idle);
            };
            ctx.spawn(job.into_actor(self));
        }
    }
}

impl Handler<IdleExpired> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: IdleExpired, _: &mut Self::Context) {
        self.links.look_once.tell(LookOnce);
    }
}

impl Handler<Quiet> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: Quiet, ctx: &mut Self::Context) {
        self.end(Why::Idle, ctx);
    }
}

impl Handler<End> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, End(why): End, ctx: &mut Self::Context) {
        self.end(why, ctx);
    }
}

impl Handler<Drained> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: Drained, ctx: &mut Self::Context) {
        let metadata = self.metadata.clone();
        let stopped = async move { metadata.stop_self().await }.into_actor(self);
        ctx.spawn(stopped.map(|result, _, _| {
            let code = match result {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!(%error, "the cloud did not note that this instance stops");
                    EXIT_UNAVAILABLE
                }
            };
            System::current().stop_with_code(code);
        }));
    }
}

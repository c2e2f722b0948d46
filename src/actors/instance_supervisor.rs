//! Root of an app instance: it takes jobs from the poller, has them recognised, answers, keeps the results, and ends
//! when there has been nothing to do, when it is told to, or when the cloud takes the instance away.
//!
//! The reply goes out before the results are stored, because somebody waits for it; the job is deleted after both, so
//! a death in between repeats the job instead of losing its result.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle, System, WrapFuture,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    guardian::{DeathNotice, Link, StandDown},
    messages::{
        Busy, Deliveries, Done, Drain, Drained, FinalPoll, Idle, IdleExpired, Nack, QueueEmpty, RequestCapacity,
    },
};
use crate::{
    cloud::{Delivery, Metadata},
    worker::{
        job_runner::JobRunner,
        prefetch::{Load, PollDecision, Prefetch},
    },
};

/// Exit code of a worker that could not finish its jobs in `worker.drain_timeout` (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_UNFINISHED: i32 = 75;
/// Exit code of a worker that has lost its cloud, or could not have its instance stopped (`EX_UNAVAILABLE` of sysexits.h).
/// Its unit on AWS powers the machine off then.
pub const EXIT_UNAVAILABLE: i32 = 69;
/// Pause between two looks for an interruption notice (EC2 gives two minutes).
const INTERRUPTION_EVERY: Duration = Duration::from_secs(5);
/// Finished images a thread whose reply or results may be being written: bounds how far inference runs ahead of a slow
/// store.
const UNSETTLED: usize = 8;

/// Ways between the actors of the instance.
#[derive(Clone, Default)]
pub struct Links {
    pub capacity: Link<RequestCapacity>,
    pub deliveries: Link<Deliveries>,
    pub done: Link<Done>,
    pub abandon: Link<Nack>,
    pub final_poll: Link<FinalPoll>,
    pub quiet: Link<QueueEmpty>,
    pub drain: Link<Drain>,
    pub drained: Link<Drained>,
    pub busy: Link<Busy>,
    pub idle: Link<Idle>,
    pub idle_expired: Link<IdleExpired>,
    pub end: Link<End>,
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

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Inference threads of the runner's pool.
    pub threads: usize,
    pub prefetch: Prefetch,
    /// `worker.drain_timeout`.
    pub drain_timeout: Duration,
}

/// The poller's question, until there is room.
struct Asked {
    batch_was_full: bool,
    answer: oneshot::Sender<usize>,
}

/// See the module.
pub struct InstanceSupervisor {
    runner: Arc<JobRunner>,
    metadata: Arc<dyn Metadata>,
    links: Links,
    limits: Limits,
    /// Jobs so far: names those in hand.
    jobs: u64,
    /// Jobs whose inference has not begun; those whose inference is under way, and since when.
    waiting: HashSet<u64>,
    begun: HashMap<u64, Instant>,
    /// Finished images whose reply or results are being written.
    unsettled: usize,
    asked: Option<Asked>,
    /// When the question is looked at again, at the latest.
    look: Option<SpawnHandle>,
    ending: Option<Why>,
    _notice: DeathNotice,
}

impl InstanceSupervisor {
    pub fn new(
        runner: Arc<JobRunner>,
        limits: Limits,
        metadata: Arc<dyn Metadata>,
        links: Links,
        notice: DeathNotice,
    ) -> Self {
        Self {
            runner,
            metadata,
            links,
            limits,
            jobs: 0,
            waiting: HashSet::new(),
            begun: HashMap::new(),
            unsettled: 0,
            asked: None,
            look: None,
            ending: None,
            _notice: notice,
        }
    }

    /// Answers the poller if it has asked and there is room, or looks again when there may be.
    fn answer_poller(&mut self, ctx: &mut Context<Self>) {
        if let Some(look) = self.look.take() {
            ctx.cancel_future(look);
        }
        let Some(asked) = self.asked.take() else { return };
        let load = Load {
            threads: self.limits.threads,
            usual: self.runner.learned.get(),
            begun: self.begun.values().copied().collect(),
            waiting: self.waiting.len(),
            batch_was_full: asked.batch_was_full,
        };
        let now = Instant::now();
        match self.limits.prefetch.ask(&load, now) {
            PollDecision::Now(count) if self.unsettled < UNSETTLED * self.limits.threads => {
                let _ = asked.answer.send(count); // a poller that has gone has asked for nothing
            }
            PollDecision::At(then) => {
                self.asked = Some(asked);
                self.look = Some(ctx.run_later(then - now, Self::answer_poller));
            }
            PollDecision::Now(_) | PollDecision::Later => self.asked = Some(asked), // until a job has come on
        }
    }

    /// Takes a job through inference, reply and storage, and gives its message back or has it deleted.
    fn take(&mut self, delivery: Delivery, ctx: &mut Context<Self>) {
        let (job, receipt) = (self.jobs, delivery.receipt.clone());
        self.jobs += 1;
        self.waiting.insert(job);
        self.links.busy.tell(Busy);
        let (told, begun) = oneshot::channel();
        ctx.spawn(begun.into_actor(self).map(move |begun, act, ctx| {
            if begun.is_ok() && act.waiting.remove(&job) {
                act.begun.insert(job, Instant::now());
                act.answer_poller(ctx);
            }
        }));
        let runner = self.runner.clone();
        let recognised = async move { runner.recognise(delivery, told).await }.into_actor(self);
        let settled = recognised.then(move |finished, act, ctx| {
            act.waiting.remove(&job);
            act.begun.remove(&job);
            act.unsettled += 1;
            act.answer_poller(ctx);
            let runner = act.runner.clone();
            let settled = async move {
                match finished {
                    Some(finished) => runner.settle(finished).await,
                    None => Ok(()),
                }
            };
            settled.into_actor(act)
        });
        let durable = settled.then(|settled, act, ctx| {
            // The disk may be slow: nothing of the image is held any more, and inference goes on.
            act.unsettled -= 1;
            act.answer_poller(ctx);
            let runner = act.runner.clone();
            let durable = async move {
                match settled {
                    Ok(()) => runner.flush().await,
                    error => error,
                }
            };
            durable.into_actor(act)
        });
        ctx.spawn(durable.map(|durable, act, _| {
            match durable {
                Ok(()) => act.links.done.tell(Done(receipt)),
                Err(error) => {
                    tracing::error!(%error, "job not finished: it will be done again");
                    act.links.abandon.tell(Nack(receipt))
                }
            };
            act.links.idle.tell(Idle);
        }));
    }

    fn end(&mut self, why: Why, ctx: &mut Context<Self>) {
        if self.ending.is_some() {
            return;
        }
        tracing::info!(?why, "draining");
        self.ending = Some(why);
        self.links.stand_down.tell(StandDown);
        self.links.drain.tell(Drain);
        ctx.run_later(self.limits.drain_timeout, |_, _| {
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

impl Handler<RequestCapacity> for InstanceSupervisor {
    type Result = ResponseFuture<usize>;
    fn handle(&mut self, RequestCapacity { batch_was_full }: RequestCapacity, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.asked = Some(Asked { batch_was_full, answer });
        self.answer_poller(ctx);
        Box::pin(async move { answered.await.unwrap_or(0) })
    }
}

impl Handler<Deliveries> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, ctx: &mut Self::Context) {
        for delivery in batch {
            self.take(delivery, ctx);
        }
    }
}

impl Handler<IdleExpired> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: IdleExpired, _: &mut Self::Context) {
        self.links.final_poll.tell(FinalPoll);
    }
}

impl Handler<QueueEmpty> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: QueueEmpty, ctx: &mut Self::Context) {
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

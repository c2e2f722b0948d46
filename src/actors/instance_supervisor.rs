//! The root of a worker's actors: takes jobs from the poller, runs them, and ends the worker when it has been idle, on
//! a signal, or when the cloud reclaims the instance.
//!
//! The reply is sent before the result is persisted, because a client is waiting for it. The job is deleted after both,
//! so a crash in between repeats the job instead of losing its result.

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
    actor_ref::{ActorRef, Sender},
    guardian::DeathNotice,
    idle_timer::{Busy, Idle, IdleExpired, IdleTimer},
    queue_poller::{Deliveries, Done, Drain, Drained, FinalPoll, Nack, QueueEmpty, QueuePoller, RequestCapacity},
};
use crate::{
    clock::now_ms,
    cloud::{CloudError, Delivery, Interruption, Metadata, Receipt},
    worker::{
        drain,
        job_runner::{Finished, JobRunner},
        prefetch::{Load, PollDecision, Prefetch},
    },
};

/// Exit code of a worker that could neither finish its jobs in `worker.drain_timeout` nor return them to the queue
/// (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_UNFINISHED: i32 = 75;
/// Exit code of a worker that has lost its cloud or could not stop its instance (`EX_UNAVAILABLE` of sysexits.h). On
/// AWS, its systemd unit then powers off the machine.
pub const EXIT_UNAVAILABLE: i32 = 69;
/// How often the interruption notice is read (EC2 gives two minutes' notice).
const INTERRUPTION_EVERY: Duration = Duration::from_secs(5);
/// Limit on finished jobs per thread whose reply or result is still being written: bounds how far execution runs ahead
/// of a slow store.
const UNPERSISTED: usize = 8;
/// How long it may take to return the unfinished jobs of a drain that has timed out to the queue.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last report of what this worker has measured may take: the machine should stop.
const LAST_REPORT: Duration = Duration::from_secs(2);

/// Senders to the other actors of the worker.
#[derive(Clone)]
pub struct Peers {
    done: Sender<Done>,
    nack: Sender<Nack>,
    final_poll: Sender<FinalPoll>,
    drain: Sender<Drain>,
    busy: Sender<Busy>,
    idle: Sender<Idle>,
}

impl Peers {
    /// Takes every sender that the supervisor needs from the references of its peers.
    pub fn new(poller: &ActorRef<QueuePoller>, timer: &ActorRef<IdleTimer>) -> Self {
        Self {
            done: poller.sender(),
            nack: poller.sender(),
            final_poll: poller.sender(),
            drain: poller.sender(),
            busy: timer.sender(),
            idle: timer.sender(),
        }
    }
}

/// Why an instance ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// There was no job for `worker.idle_stop`.
    Idle,
    /// SIGTERM or SIGINT.
    Signal,
    /// The cloud announced that it will reclaim the instance.
    Interrupted(Interruption),
}

/// Asks the supervisor to finish the jobs in flight and end the worker.
#[derive(Message)]
#[rtype(result = "()")]
pub struct End(pub EndReason);

/// Limits of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Threads of the job runner.
    pub threads: usize,
    /// How far ahead jobs are received.
    pub prefetch: Prefetch,
    /// `worker.drain_timeout`.
    pub drain_timeout: Duration,
}

/// The poller's request for capacity, kept until there is capacity.
struct CapacityRequest {
    batch_was_full: bool,
    batching: Duration,
    answer: oneshot::Sender<usize>,
}

/// Takes jobs from the poller, runs them, and ends the worker.
pub struct InstanceSupervisor {
    runner: Arc<JobRunner>,
    metadata: Arc<dyn Metadata>,
    peers: Peers,
    limits: Limits,
    /// Number of jobs received so far, which numbers the next one.
    jobs: u64,
    /// Received jobs that wait for a thread; jobs on a thread, each with its start.
    waiting: HashSet<u64>,
    begun: HashMap<u64, Instant>,
    /// Finished jobs whose reply or result is being written.
    unpersisted: usize,
    /// The receipts of all of these.
    receipts: HashMap<u64, Receipt>,
    capacity_request: Option<CapacityRequest>,
    /// Timer for the next decision on the request.
    decide_later: Option<SpawnHandle>,
    ending: Option<EndReason>,
    /// Until when the jobs of a drain may finish, as long as they may.
    drain_until: Option<Instant>,
    /// Timer that limits the drain, or the return of its unfinished jobs.
    drain_limit: Option<SpawnHandle>,
    notice: DeathNotice,
}

impl InstanceSupervisor {
    /// Creates the supervisor of a worker whose jobs are run by `runner`.
    pub fn new(
        runner: Arc<JobRunner>,
        limits: Limits,
        metadata: Arc<dyn Metadata>,
        peers: Peers,
        notice: DeathNotice,
    ) -> Self {
        Self {
            runner,
            metadata,
            peers,
            limits,
            jobs: 0,
            waiting: HashSet::new(),
            begun: HashMap::new(),
            unpersisted: 0,
            receipts: HashMap::new(),
            capacity_request: None,
            decide_later: None,
            ending: None,
            drain_until: None,
            drain_limit: None,
            notice,
        }
    }

    /// Answers the poller's request if there is capacity; otherwise decides again when there may be.
    fn answer_poller(&mut self, ctx: &mut Context<Self>) {
        if let Some(later) = self.decide_later.take() {
            ctx.cancel_future(later);
        }
        let Some(request) = self.capacity_request.take() else { return };
        let load = Load {
            threads: self.limits.threads,
            service_time: self.runner.service_time().get(),
            begun: self.begun.values().copied().collect(),
            waiting: self.waiting.len(),
            batch_was_full: request.batch_was_full,
            batching: request.batching,
        };
        let now = Instant::now();
        match self.limits.prefetch.decide(&load, now) {
            PollDecision::Now(count) if self.unpersisted < UNPERSISTED * self.limits.threads => {
                let _ = request.answer.send(count); // the poller may be gone
            }
            PollDecision::At(then) => {
                self.capacity_request = Some(request);
                self.decide_later = Some(ctx.run_later(then - now, Self::answer_poller));
            }
            PollDecision::Now(_) | PollDecision::Later => self.capacity_request = Some(request),
        }
    }

    /// Runs a job: sends the reply, persists the result, and deletes the message or returns it to the queue.
    fn take(&mut self, delivery: Delivery, ctx: &mut Context<Self>) {
        let (job, receipt) = (self.jobs, delivery.receipt.clone());
        self.jobs += 1;
        self.waiting.insert(job);
        self.receipts.insert(job, receipt.clone());
        self.peers.busy.tell(Busy);
        let (notify, begun) = oneshot::channel();
        ctx.spawn(begun.into_actor(self).map(move |begun, act, ctx| {
            if begun.is_ok() && act.waiting.remove(&job) {
                act.begun.insert(job, Instant::now());
                act.answer_poller(ctx);
            }
        }));
        let runner = self.runner.clone();
        let run = async move { runner.run(delivery, notify).await }.into_actor(self);
        let persisted = run.then(move |finished, act, ctx| {
            act.waiting.remove(&job);
            act.begun.remove(&job);
            act.unpersisted += 1;
            act.answer_poller(ctx);
            let runner = act.runner.clone();
            let persisted = async move {
                let finished = finished.map_err(|not_run| not_run.delay)?;
                runner.persist(&finished).await.map_err(|error| not_finished(&error, &finished))?;
                Ok(finished.without_payload())
            };
            persisted.into_actor(act)
        });
        ctx.spawn(persisted.map(move |persisted, act, ctx| {
            act.receipts.remove(&job);
            // The disk may be slow: the payload has been released, and execution continues.
            act.unpersisted -= 1;
            act.answer_poller(ctx);
            let (runner, peers) = (act.runner.clone(), act.peers.clone());
            // Not in this context, which polls all its futures when one is ready: hundreds wait for the same flush.
            actix::spawn(async move {
                let durable = match persisted {
                    Ok(finished) => runner.flush().await.map_err(|error| not_finished(&error, &finished)),
                    Err(delay) => Err(delay),
                };
                match durable {
                    Ok(()) => peers.done.tell(Done(receipt)),
                    Err(delay) => peers.nack.tell(Nack { receipt, delay }),
                };
                peers.idle.tell(Idle);
            });
        }));
    }

    /// Begins to drain. An interruption also limits a drain that has begun for another reason.
    fn end(&mut self, reason: EndReason, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.ending.is_none() {
            tracing::info!(?reason, "draining");
            self.ending = Some(reason.clone());
            self.notice.stand_down();
            self.peers.drain.tell(Drain);
            self.limit_drain(now + self.limits.drain_timeout, ctx);
        }
        if let (EndReason::Interrupted(Interruption { reason, at_ms }), Some(planned)) = (reason, self.drain_until) {
            let until = drain::limit(planned, at_ms, now, now_ms());
            if until < planned {
                tracing::info!(reason, left = ?until - now, "the cloud reclaims the instance: draining in less time");
                self.limit_drain(until, ctx);
            }
        }
    }

    fn limit_drain(&mut self, until: Instant, ctx: &mut Context<Self>) {
        self.drain_until = Some(until);
        let limit = ctx.run_later(until - Instant::now(), Self::return_unfinished);
        if let Some(earlier) = self.drain_limit.replace(limit) {
            ctx.cancel_future(earlier);
        }
    }

    /// Returns the jobs that have not finished in time to the queue, so that others need not wait until they become
    /// visible. The drain then ends; if that fails too, so does the process.
    fn return_unfinished(&mut self, ctx: &mut Context<Self>) {
        self.drain_until = None;
        let jobs = self.receipts.len();
        tracing::error!(jobs, "jobs in flight did not finish in time: returning them to the queue");
        for (_, receipt) in self.receipts.drain() {
            self.peers.nack.tell(Nack { receipt, delay: Duration::ZERO });
        }
        let end = ctx.run_later(RETURN_TIMEOUT, |_, _| System::current().stop_with_code(EXIT_UNFINISHED));
        self.drain_limit = Some(end);
    }

    /// Reads the interruption notice, and drains if there is one.
    fn read_notice(&mut self, ctx: &mut Context<Self>) {
        let metadata = self.metadata.clone();
        let asked = async move { metadata.interruption().await }.into_actor(self);
        ctx.spawn(asked.map(|result, act, ctx| match result {
            Ok(None) => {}
            Ok(Some(notice)) => act.end(EndReason::Interrupted(notice), ctx),
            Err(error) => tracing::warn!(%error, "interruption notice not read"),
        }));
    }
}

/// Reports a job that was run but not finished. Returns the delay after which it is delivered again.
fn not_finished(error: &CloudError, finished: &Finished) -> Duration {
    let delay = finished.retry_delay(error);
    tracing::error!(%error, ?delay, "job not finished: it will be redelivered");
    delay
}

impl Actor for InstanceSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.read_notice(ctx); // a worker that was restarted may have got it before
        ctx.run_interval(INTERRUPTION_EVERY, Self::read_notice);
    }
}

impl Handler<RequestCapacity> for InstanceSupervisor {
    type Result = ResponseFuture<usize>;
    fn handle(&mut self, request: RequestCapacity, ctx: &mut Self::Context) -> Self::Result {
        let RequestCapacity { batch_was_full, batching } = request;
        let (answer, answered) = oneshot::channel();
        self.capacity_request = Some(CapacityRequest { batch_was_full, batching, answer });
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
        self.peers.final_poll.tell(FinalPoll);
    }
}

impl Handler<QueueEmpty> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: QueueEmpty, ctx: &mut Self::Context) {
        self.end(EndReason::Idle, ctx);
    }
}

impl Handler<End> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, End(reason): End, ctx: &mut Self::Context) {
        self.end(reason, ctx);
    }
}

impl Handler<Drained> for InstanceSupervisor {
    type Result = ();
    fn handle(&mut self, _: Drained, ctx: &mut Self::Context) {
        // The stop of the instance has limits of its own.
        self.drain_until = None;
        if let Some(timer) = self.drain_limit.take() {
            ctx.cancel_future(timer);
        }
        let (metadata, runner) = (self.metadata.clone(), self.runner.clone());
        let stopped = async move {
            if tokio::time::timeout(LAST_REPORT, runner.report()).await.is_err() {
                tracing::warn!("the last report of what this worker has measured is lost");
            }
            metadata.stop_self().await
        };
        let stopped = stopped.into_actor(self);
        ctx.spawn(stopped.map(|result, _, _| {
            let code = match result {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!(%error, "this instance could not be stopped");
                    EXIT_UNAVAILABLE
                }
            };
            System::current().stop_with_code(code);
        }));
    }
}

#[cfg(test)]
mod tests;

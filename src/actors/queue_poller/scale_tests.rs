//! How much a poller receives from a queue whose calls take time, or are refused beyond a quota.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

use super::*;
use crate::{
    actors::{actor_ref::Sender, guardian::Guardian, reply_router::ReplyRouter},
    cloud::{Depth, Message},
    job::{JobId, Reply},
    wire,
    worker::{
        prefetch::{Load, PollDecision, Prefetch},
        service_time::ServiceTime,
    },
};

/// Round trip of a call to SQS within a region.
const CALL: Duration = Duration::from_millis(20);

/// A queue on virtual time: each call takes [`CALL`], and returns at most [`MAX_BATCH`] messages.
#[derive(Default)]
struct Remote {
    messages: Mutex<VecDeque<Delivery>>,
    sent: Notify,
    /// Calls that each kind may make per second; any number if there is none.
    quota: Option<f64>,
    /// The tokens of each kind of call, and when they were counted.
    tokens: Mutex<HashMap<&'static str, (f64, Instant)>>,
    receives: Mutex<Vec<Instant>>,
    /// Receives under way, and most at a time.
    under_way: Mutex<(usize, usize)>,
    refused: Mutex<usize>,
    /// Whether every receive fails.
    broken: Mutex<bool>,
    /// When each message was deleted.
    deleted: Mutex<Vec<Instant>>,
}

impl Remote {
    fn push(&self, id: usize, body: Bytes) {
        let delivery = Delivery { body, receipt: Receipt(id.to_string()), receives: 1, group: None };
        self.messages.lock().expect("no panic").push_back(delivery);
        self.sent.notify_one();
    }

    /// Makes a call of this kind: takes the time of one way, and a token.
    async fn admit(&self, kind: &'static str) -> CloudResult<()> {
        sleep(CALL / 2).await;
        let (Some(quota), now) = (self.quota, Instant::now()) else { return Ok(()) };
        let mut all = self.tokens.lock().expect("no panic");
        let (tokens, counted) = all.entry(kind).or_insert((quota, now));
        *tokens = (*tokens + (now - *counted).as_secs_f64() * quota).min(quota);
        *counted = now;
        if *tokens < 1.0 {
            *self.refused.lock().expect("no panic") += 1;
            return Err(CloudError::Throttled);
        }
        *tokens -= 1.0;
        Ok(())
    }

    fn take(&self, max: usize) -> Vec<Delivery> {
        let mut messages = self.messages.lock().expect("no panic");
        let count = messages.len().min(max);
        messages.drain(..count).collect()
    }

    async fn receive_now_or_later(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        self.admit("receive").await?;
        let until = Instant::now() + wait;
        let batch = loop {
            let batch = self.take(max);
            if !batch.is_empty() || tokio::time::timeout_at(until, self.sent.notified()).await.is_err() {
                break batch;
            }
        };
        sleep(CALL / 2).await;
        if *self.broken.lock().expect("no panic") {
            self.messages.lock().expect("no panic").extend(batch);
            return Err(CloudError::Unavailable("broken".into()));
        }
        Ok(batch)
    }

    fn deleted(&self) -> usize {
        self.deleted.lock().expect("no panic").len()
    }
}

#[async_trait]
impl Queue for Remote {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        self.receives.lock().expect("no panic").push(Instant::now());
        let under_way = |began: bool| {
            let mut under_way = self.under_way.lock().expect("no panic");
            under_way.0 = if began { under_way.0 + 1 } else { under_way.0 - 1 };
            under_way.1 = under_way.1.max(under_way.0);
        };
        under_way(true);
        let received = self.receive_now_or_later(max, wait).await;
        under_way(false);
        received
    }
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        if let Err(error) = self.admit("delete").await {
            return vec![Err(error); batch.len()];
        }
        self.deleted.lock().expect("no panic").extend(batch.iter().map(|_| Instant::now()));
        vec![Ok(()); batch.len()]
    }
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn depth(&self) -> CloudResult<Depth> {
        Ok(Depth::default())
    }
}
fn options(max_receives: usize) -> PollerOptions {
    PollerOptions {
        visibility: Duration::from_secs(30),
        delete_linger: Duration::ZERO,
        poll_linger: CALL,
        wait: LONG_POLL,
        finish_poll: true,
        max_receives,
    }
}

/// Starts a web node's router and poller, and returns the queue and the body of a reply.
fn start_node(max_receives: usize) -> (Arc<Remote>, Bytes) {
    let queue = Arc::new(Remote::default());
    let mut guardian = Guardian::builder();
    let router = guardian.actor_ref::<ReplyRouter>("router");
    let poller = guardian.actor_ref::<QueuePoller>("poller");
    let (done, owner, polled) = (poller.sender(), Owner::of_endless(&router), queue.clone());
    guardian.supervise(&router, move |notice| ReplyRouter::new(done.clone(), None, notice));
    guardian.supervise(&poller, move |notice| {
        QueuePoller::new(polled.clone(), options(max_receives), owner.clone(), notice)
    });
    guardian.start().expect("every actor was added");
    let reply = Reply { id: JobId(1), outcome: Ok("[]".into()), worker: "i-1".into(), worker_ms: 100.0 };
    (queue, wire::to_bytes(&reply).expect("encoded"))
}

/// Runs a web node's router and poller while this many replies arrive per second, for `seconds`, and then for a minute more.
/// Returns how many were deleted within a fifth of a second of the last one, and the queue.
async fn replies(per_second: usize, seconds: usize, max_receives: usize) -> (usize, Arc<Remote>) {
    let (queue, body) = start_node(max_receives);
    let tick = Duration::from_millis(10); // a timer counts whole milliseconds
    let arrived = |ticks: usize| per_second * ticks / 100;
    for ticks in 0..100 * seconds {
        (arrived(ticks)..arrived(ticks + 1)).for_each(|id| queue.push(id, body.clone()));
        sleep(tick).await;
    }
    sleep(10 * CALL).await;
    let deleted = queue.deleted();
    sleep(Duration::from_secs(60)).await;
    (deleted, queue)
}

#[actix::test]
async fn a_web_node_receives_two_thousand_replies_per_second() {
    tokio::time::pause();
    let (per_second, seconds) = (2_000, 10);
    let all = per_second * seconds;
    let (deleted, queue) = replies(per_second, seconds, 16).await;
    assert!(deleted >= all - per_second / 100, "{deleted} of {all} at the end");
    assert_eq!(queue.deleted(), all);
    // At load, receives are shared; at rest, one long poll follows another.
    let receives = queue.receives.lock().expect("no panic").clone();
    let end = Instant::now();
    let at_rest = receives.iter().filter(|at| **at + Duration::from_secs(40) > end).count();
    assert!(receives.len() < all / 4, "{} receives for {all} replies", receives.len());
    assert!(at_rest <= 3, "{at_rest} receives in 40 s at rest");
    let (deleted, _) = replies(per_second, 2, 1).await;
    assert!(deleted < 500 * 2 + 500, "one receive at a time limits the rate: {deleted}");
}

#[actix::test]
async fn a_broken_connection_pauses_a_busy_node_once_and_not_for_each_of_its_receives() {
    tokio::time::pause();
    let ((queue, body), per_tick, ticks) = (start_node(16), 20, 300);
    for tick in 0..ticks {
        *queue.broken.lock().expect("no panic") = (100..104).contains(&tick);
        (0..per_tick).for_each(|n| queue.push(tick * per_tick + n, body.clone()));
        sleep(Duration::from_millis(10)).await;
    }
    sleep(10 * CALL).await;
    let (deleted, all) = (queue.deleted(), ticks * per_tick);
    assert!(deleted >= all - 10 * per_tick, "{deleted} of {all} replies");
}

#[actix::test]
async fn a_node_with_few_replies_has_one_receive_under_way() {
    tokio::time::pause();
    let (deleted, queue) = replies(50, 10, 16).await;
    assert_eq!((deleted, queue.under_way.lock().expect("no panic").1), (500, 1));
}

/// The time of a job on a thread, and the threads of a worker.
const JOB: Duration = Duration::from_millis(150);
const THREADS: usize = 2;

/// The owner of a worker's poller: threads that each take [`JOB`] for a job, and the decisions of a real worker.
struct Worker {
    begun: Vec<Instant>,
    waiting: VecDeque<Receipt>,
    request: Option<(RequestCapacity, oneshot::Sender<usize>)>,
    done: Sender<Done>,
}

impl Worker {
    fn work(&mut self, ctx: &mut Context<Self>) {
        while self.begun.len() < THREADS
            && let Some(receipt) = self.waiting.pop_front()
        {
            let now = Instant::now();
            self.begun.push(now);
            ctx.run_later(JOB, move |act, ctx| {
                act.begun.retain(|begun| *begun != now);
                act.done.tell(Done(receipt));
                act.work(ctx);
            });
        }
        self.answer(ctx);
    }

    fn answer(&mut self, ctx: &mut Context<Self>) {
        let Some((request, answer)) = self.request.take() else { return };
        let load = Load {
            threads: THREADS,
            service_time: Some(ServiceTime { mean: JOB, upper_bound: JOB }),
            begun: self.begun.clone(),
            waiting: self.waiting.len(),
            batch_was_full: request.batch_was_full,
            batching: request.batching,
        };
        let prefetch = Prefetch { lead: Duration::from_millis(5), max_prefetch_delay: CALL };
        match prefetch.decide(&load, Instant::now()) {
            PollDecision::Now(count) => drop(answer.send(count)),
            PollDecision::At(then) => {
                self.request = Some((request, answer));
                ctx.run_later(then - Instant::now(), Self::answer);
            }
            PollDecision::Later => self.request = Some((request, answer)),
        }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<RequestCapacity> for Worker {
    type Result = actix::ResponseFuture<usize>;
    fn handle(&mut self, request: RequestCapacity, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.request = Some((request, answer));
        self.answer(ctx);
        Box::pin(async move { answered.await.unwrap_or(0) })
    }
}

impl Handler<Deliveries> for Worker {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, ctx: &mut Self::Context) {
        self.waiting.extend(batch.into_iter().map(|delivery| delivery.receipt));
        self.work(ctx);
    }
}

#[actix::test]
async fn workers_do_four_jobs_for_each_call_that_the_quota_allows() {
    tokio::time::pause();
    let (workers, seconds) = (20, 40);
    let capacity = (workers * THREADS) as f64 / JOB.as_secs_f64();
    // As for 10,000 jobs per second in a region that allows 2,400 calls.
    let queue = Arc::new(Remote { quota: Some(capacity * 2_400.0 / 10_000.0), ..Remote::default() });
    let backlog = capacity as usize * seconds;
    (0..backlog).for_each(|id| queue.push(id, Bytes::new()));
    let mut guardian = Guardian::builder();
    for _ in 0..workers {
        let worker = guardian.actor_ref::<Worker>("worker");
        let poller = guardian.actor_ref::<QueuePoller>("poller");
        let (done, owner, polled) = (poller.sender(), Owner::of_endless(&worker), queue.clone());
        guardian.supervise(&worker, move |_| Worker {
            begun: Vec::new(),
            waiting: VecDeque::new(),
            request: None,
            done: done.clone(),
        });
        guardian.supervise(&poller, move |notice| QueuePoller::new(polled.clone(), options(1), owner.clone(), notice));
    }
    guardian.start().expect("every actor was added");
    sleep(Duration::from_secs(seconds as u64)).await;
    let (done, refused) = (queue.deleted(), *queue.refused.lock().expect("no panic"));
    assert!(done as f64 >= 0.9 * backlog as f64, "{done} of {backlog} jobs, {refused} refused calls");
    // What was refused is deleted later: no job is done twice.
    sleep(Duration::from_secs(20)).await;
    assert_eq!(queue.deleted(), backlog);
}

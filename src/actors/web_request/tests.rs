//! A retry has an outcome even if the queue drops it as a duplicate and the reply has gone to the first request.

use std::{
    cell::Cell,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::{
    actors::{
        actor_ref::ActorRef,
        guardian::{DeathNotice, Guardian},
        queue_poller::QueuePoller,
        reply_router::ReplyRouter,
    },
    cloud::{CloudResult, Delivery, Depth, Receipt, local::LocalObjects},
    job::{Job, JobKind, Output, Payload},
    settings,
};

/// Accepts everything and delivers nothing, as a FIFO queue does with duplicates.
#[derive(Default)]
struct DeduplicatingQueue {
    flushes: AtomicUsize,
    /// Sends never end.
    stuck: AtomicBool,
}

#[async_trait]
impl Queue for DeduplicatingQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        if self.stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn flush(&self) -> CloudResult<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    async fn receive(&self, _: usize, _: Duration) -> CloudResult<Vec<Delivery>> {
        Ok(vec![])
    }
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn depth(&self) -> CloudResult<Depth> {
        Ok(Depth::default())
    }
}

/// Counts the [`Forget`] messages that it receives.
struct ForgetCounter {
    count: Rc<Cell<usize>>,
    _notice: DeathNotice,
}

impl Actor for ForgetCounter {
    type Context = Context<Self>;
}

impl Handler<Forget> for ForgetCounter {
    type Result = ();
    fn handle(&mut self, _: Forget, _: &mut Self::Context) {
        self.count.set(self.count.get() + 1);
    }
}

struct World {
    ports: Ports,
    forgotten: Rc<Cell<usize>>,
    queue: Arc<DeduplicatingQueue>,
    _data: tempfile::TempDir,
}

fn world() -> World {
    let data = tempfile::tempdir().expect("a folder");
    let store = Arc::new(LocalObjects::open(data.path()).expect("a store"));
    let layers = settings::Layers::load(None, Default::default()).expect("the defaults");
    let settings = settings::Settings::from_layers(&layers, settings::Machine::with_cores(2)).expect("the defaults");
    let results = ResultStore::new(store, settings.store);
    let mut guardian = Guardian::builder();
    let router = guardian.actor_ref::<ReplyRouter>("reply router");
    let done = ActorRef::<QueuePoller>::new("nobody").sender();
    guardian.supervise(&router, move |notice| ReplyRouter::new(done.clone(), None, notice));
    let (forget, forgotten) = (guardian.actor_ref::<ForgetCounter>("forgotten"), Rc::<Cell<usize>>::default());
    let count = forgotten.clone();
    guardian.supervise(&forget, move |notice| ForgetCounter { count: count.clone(), _notice: notice });
    guardian.start().expect("every actor was added");
    let queue = Arc::<DeduplicatingQueue>::default();
    let ports = Ports { requests: queue.clone(), results, register: router.sender(), forget: forget.sender() };
    World { ports, forgotten, queue, _data: data }
}

fn request(ports: &Ports, may_be_retry: bool) -> oneshot::Receiver<Result<Reply, SubmitError>> {
    let (sender, outcome) = oneshot::channel();
    let request = Request {
        id: JobId(7),
        message: Message::default(),
        file: "a.jpg".into(),
        retention: Retention::Keep,
        deadline: Duration::from_secs(120),
        may_be_retry,
    };
    WebRequest { request, ports: ports.clone(), outcome: Some(sender), registered: false, sent: false }.start();
    outcome
}

async fn store_result(ports: &Ports) {
    let job = Job {
        id: JobId(7),
        kind: JobKind(0),
        reply_to: "replies".into(),
        file: "a.jpg".into(),
        payload: Payload::Inline(Bytes::new()),
        dataset: String::new(),
        min_version: 0,
        submitted_ms: 0,
    };
    let output = Output::json(&"Ada", "Ada").expect("JSON");
    ports.results.store_output(&job, Bytes::new(), &output, "i-1").await.expect("stored");
}

#[actix::test]
async fn a_retry_finds_the_result_that_is_stored_while_it_waits() {
    tokio::time::pause();
    let world = world();
    tokio::task::yield_now().await; // the router starts
    let started = Instant::now();
    let outcome = request(&world.ports, true);
    tokio::time::sleep(Duration::from_secs(3)).await;
    store_result(&world.ports).await;
    let reply = outcome.await.expect("an outcome").expect("the stored result");
    assert_eq!(reply.outcome.expect("done"), "\"Ada\"");
    assert!(started.elapsed() < Duration::from_secs(6), "ended after {:?}", started.elapsed());
}

#[actix::test]
async fn an_unanswered_request_ends_at_its_deadline_and_stores_a_pending_result() {
    tokio::time::pause();
    let world = world();
    tokio::task::yield_now().await;
    for (requests, may_be_retry) in [true, false].into_iter().enumerate() {
        let started = Instant::now();
        assert_eq!(world.queue.flushes.load(Ordering::Relaxed), requests);
        let failed = request(&world.ports, may_be_retry).await.expect("an outcome").expect_err("no reply came");
        assert!(matches!(failed, SubmitError::Deadline { .. }), "{failed}");
        assert!(started.elapsed() >= Duration::from_secs(120));
        assert_eq!(
            world.queue.flushes.load(Ordering::Relaxed),
            requests + 1,
            "the request is durable before its outcome promises a result"
        );
        tokio::time::sleep(Duration::from_millis(1)).await; // the request stops
        assert_eq!(world.forgotten.get(), requests + 1, "the router does not keep requests that have ended");
    }
    assert!(world.ports.results.get(JobId(7)).await.expect("read").is_some(), "a pending result");
}

#[actix::test]
async fn no_result_is_promised_at_the_deadline_if_the_job_has_not_been_sent() {
    tokio::time::pause();
    let world = world();
    tokio::task::yield_now().await;
    world.queue.stuck.store(true, Ordering::Relaxed);
    let failed = request(&world.ports, false).await.expect("an outcome").expect_err("no reply came");
    assert!(matches!(failed, SubmitError::Unanswered { .. }), "{failed}");
    assert!(world.ports.results.get(JobId(7)).await.expect("read").is_none(), "nothing is pending");
}

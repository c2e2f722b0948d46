//! A worker's actors on real queues: when a job leaves the queue, and how the worker ends.

mod drains;

use std::sync::{Condvar, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use rollcall_testing::wait_until;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    actors::{guardian::Guardian, queue_poller::Owner},
    cloud::{
        CloudError, CloudResult, ETag, InstanceId, Interruption, MAX_BATCH, NewObject, Object, ObjectInfo, ObjectStore,
        Precondition, Queue, polling::PollerOptions,
    },
    fleet::IdleStop,
    job::{JobId, Output},
    results::ResultStore,
    testing::{Handler, World},
    worker::{job_runner::Options, reply_sender::ReplySender},
};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How the cloud treats the instance.
#[derive(Default)]
struct Cloud {
    /// It refuses to stop the instance.
    refuses: bool,
    /// It reclaims the instance.
    notice: Mutex<Option<Interruption>>,
    /// How often the notice has been read.
    noticed: Mutex<usize>,
    /// How long it takes to stop the instance, by a clock that is paused then.
    stop_takes: Option<Duration>,
    stops: Mutex<usize>,
    stopped_at: Mutex<Option<Instant>>,
}

#[async_trait]
impl Metadata for Cloud {
    async fn instance_id(&self) -> CloudResult<InstanceId> {
        Ok(InstanceId("i-1".into()))
    }
    async fn interruption(&self) -> CloudResult<Option<Interruption>> {
        let notice = self.notice.lock().expect("no panic").clone();
        *self.noticed.lock().expect("no panic") += usize::from(notice.is_some());
        Ok(notice)
    }
    async fn ready(&self) -> CloudResult<()> {
        Ok(())
    }
    async fn stop_self(&self) -> CloudResult<()> {
        *self.stops.lock().expect("no panic") += 1;
        *self.stopped_at.lock().expect("no panic") = Some(Instant::now());
        if let Some(takes) = self.stop_takes {
            tokio::time::pause();
            tokio::time::sleep(takes).await;
        }
        if self.refuses { Err(CloudError::Denied("not now".into())) } else { Ok(()) }
    }
    async fn lost(&self) {
        std::future::pending().await
    }
}

/// Blocks jobs until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().expect("no panic") = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.lock().expect("no panic");
        drop(self.1.wait_while(open, |open| !*open).expect("no panic"));
    }
}

/// A store whose writes and flushes wait for permits.
struct Held {
    store: Arc<dyn ObjectStore>,
    writes: Semaphore,
    flushes: Semaphore,
}

#[async_trait]
impl ObjectStore for Held {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        self.writes.acquire().await.expect("open").forget();
        self.store.put(bucket, key, bytes, when).await
    }
    async fn put_buffered(&self, objects: Vec<NewObject>) -> CloudResult<()> {
        self.writes.acquire().await.expect("open").forget();
        self.store.put_buffered(objects).await
    }
    async fn flush(&self) -> CloudResult<()> {
        self.flushes.acquire().await.expect("open").forget();
        self.store.flush().await
    }
    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        self.store.get(bucket, key).await
    }
    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        self.store.get_if_changed(bucket, key, etag).await
    }
    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        self.store.list(bucket, prefix).await
    }
    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        self.store.delete(bucket, key).await
    }
    async fn check(&self, bucket: &str) -> CloudResult<()> {
        self.store.check(bucket).await
    }
}

struct Worker {
    gate: Arc<Gate>,
    end: Sender<End>,
}

/// Starts a worker of one thread, whose jobs wait for the gate.
async fn start(world: &World, cloud: Arc<Cloud>, idle: Duration) -> Worker {
    start_with(world, cloud, idle, 1).await
}

async fn start_with(world: &World, cloud: Arc<Cloud>, idle: Duration, threads: usize) -> Worker {
    start_draining(world, cloud, idle, threads, Duration::from_secs(20)).await
}

async fn start_draining(
    world: &World,
    cloud: Arc<Cloud>,
    idle: Duration,
    threads: usize,
    drain_timeout: Duration,
) -> Worker {
    let gate = Arc::<Gate>::default();
    let held = gate.clone();
    let runner = JobRunner::start(Options {
        handler: Arc::new(Handler(move |text: &str| {
            held.wait();
            Output::json(&text, text)
        })),
        threads,
        results: world.results.clone(),
        replies: ReplySender::new(world.queues.clone(), world.settings.queue.speaker.clone()),
        instance: "i-1".into(),
        collector: crate::telemetry::Collector::default(),
    });
    let runner = Arc::new(runner.await.expect("started"));
    let mut guardian = Guardian::builder();
    let supervisor = guardian.actor_ref::<InstanceSupervisor>("supervisor");
    let poller = guardian.actor_ref::<QueuePoller>("poller");
    let timer = guardian.actor_ref::<IdleTimer>("timer");
    let (expired, born) = (supervisor.sender(), Instant::now());
    let rule = IdleStop { idle, billing_minimum: Duration::ZERO };
    guardian.supervise(&timer, move |notice| IdleTimer::new(rule, born, expired.clone(), notice));
    let lead = Duration::from_millis(1);
    let prefetch = Prefetch { lead, max_prefetch_delay: lead };
    let limits = Limits { threads, prefetch, drain_timeout };
    let peers = Peers::new(&poller, &timer);
    guardian.fail_fast(&supervisor, move |notice| InstanceSupervisor::new(runner, limits, cloud, peers, notice));
    let options = PollerOptions {
        visibility: world.settings.queue.visibility,
        delete_linger: Duration::ZERO,
        poll_linger: Duration::ZERO,
        wait: Duration::from_secs(1),
        finish_poll: false,
        max_receives: 1,
    };
    let (requests, owner) = (world.requests.clone(), Owner::of_draining(&supervisor));
    guardian
        .supervise(&poller, move |notice| QueuePoller::new(requests.clone(), options.clone(), owner.clone(), notice));
    guardian.start().expect("every actor was added");
    Worker { gate, end: supervisor.sender() }
}

/// Waits until the queue has these numbers of visible and in-flight jobs.
async fn depth(queue: &dyn Queue, visible: u64, in_flight: u64) {
    wait_until(&format!("{visible} visible and {in_flight} in flight"), TIMEOUT, async || {
        let depth = queue.depth().await.expect("a depth");
        (depth.visible, depth.in_flight) == (visible, in_flight)
    })
    .await;
}

/// Runs a system with `scenario` and returns its exit code.
fn run(scenario: impl Future<Output = ()> + 'static) -> i32 {
    let system = System::new();
    system.block_on(scenario);
    system.run_with_code().expect("the system ran")
}

#[test]
fn a_job_leaves_the_queue_only_when_its_result_is_durable() {
    let code = run(async {
        let mut world = World::new().await;
        let (writes, flushes) = (Semaphore::new(0), Semaphore::new(0));
        let held = Arc::new(Held { store: world.objects.clone(), writes, flushes });
        world.results = ResultStore::new(held.clone(), world.settings.store.clone());
        let worker = start(&world, Arc::default(), Duration::from_secs(60)).await;
        world.send(&world.job(1, "x")).await;
        depth(&*world.requests, 0, 1).await;
        // If this process died now, the job would be delivered again.
        let in_the_queue = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(world.requests.depth().await.expect("a depth").in_flight, 1);
        };
        in_the_queue().await;
        assert!(world.results.get(JobId(1)).await.expect("read").is_none());
        worker.gate.open();
        in_the_queue().await; // its result is not written
        held.writes.add_permits(10);
        in_the_queue().await; // its result is not durable
        held.flushes.add_permits(10);
        depth(&*world.requests, 0, 0).await;
        assert!(
            world.results.get(JobId(1)).await.expect("read").is_some(),
            "the result is stored before the job is deleted"
        );
        worker.end.tell(End(EndReason::Signal));
        Box::leak(Box::new(world)); // until the system has ended
    });
    assert_eq!(code, 0);
}

#[test]
fn a_worker_runs_ahead_of_a_slow_store_by_a_bounded_number_of_jobs() {
    const JOBS: u64 = 60;
    let code = run(async {
        let mut world = World::new().await;
        let (writes, flushes) = (Semaphore::new(0), Semaphore::new(1000));
        let held = Arc::new(Held { store: world.objects.clone(), writes, flushes });
        world.results = ResultStore::new(held.clone(), world.settings.store.clone());
        for id in 0..JOBS {
            world.send(&world.job(u128::from(id), "x")).await;
        }
        let worker = start_with(&world, Arc::default(), Duration::from_secs(60), 2).await;
        worker.gate.open();
        let in_flight = async || world.requests.depth().await.expect("a depth").in_flight;
        let mut stable = (0, 0); // for how many checks the number has been the same
        while stable.1 < 40 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = in_flight().await;
            stable = if now == stable.0 && now > 0 { (now, stable.1 + 1) } else { (now, 0) };
        }
        // The last poll may have been for some more.
        let limit = 2 * UNPERSISTED as u64;
        assert!((limit..limit + 2 * MAX_BATCH as u64).contains(&stable.0), "{} of {limit}", stable.0);
        held.writes.add_permits(1000);
        depth(&*world.requests, 0, 0).await;
        worker.end.tell(End(EndReason::Signal));
        Box::leak(Box::new(world));
    });
    assert_eq!(code, 0);
}

#[test]
fn a_busy_thread_takes_no_further_job_and_a_signal_lets_it_finish() {
    let code = run(async {
        let world = World::new().await;
        let worker = start(&world, Arc::default(), Duration::from_secs(60)).await;
        world.send(&world.job(1, "x")).await;
        depth(&*world.requests, 0, 1).await;
        world.send(&world.job(2, "y")).await;
        depth(&*world.requests, 1, 1).await;
        worker.end.tell(End(EndReason::Signal));
        tokio::time::sleep(Duration::from_millis(50)).await;
        worker.gate.open();
        depth(&*world.requests, 1, 0).await; // the first is done; the second is for others
        assert!(world.results.get(JobId(1)).await.expect("read").is_some());
        Box::leak(Box::new(world));
    });
    assert_eq!(code, 0);
}

#[test]
fn a_job_whose_reply_cannot_be_sent_returns_to_the_queue() {
    run(async {
        let world = World::new().await;
        let worker = start(&world, Arc::default(), Duration::from_secs(60)).await;
        worker.gate.open();
        world.send(&crate::job::Job { reply_to: "elsewhere".into(), ..world.job(1, "x") }).await;
        // It is received again and again, up to the limit of the queue, and never deleted as done.
        wait_until("it is given up by the queue", TIMEOUT, async || {
            world.requests.depth().await.expect("a depth").total() == 0
        })
        .await;
        assert!(world.results.get(JobId(1)).await.expect("read").is_none(), "it is not done");
        worker.end.tell(End(EndReason::Signal));
        Box::leak(Box::new(world));
    });
}

//! A job is replied to before its outcome is persisted, kept according to its kind, and cannot send replies elsewhere.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use async_trait::async_trait;

use crate::{
    cloud::{ETag, Message, Object, ObjectInfo, ObjectStore, Polling, Precondition, Queue, QueueSpec, Queues},
    job::{JobId, JobKind, Payload},
    results::Status,
    telemetry::Sample,
    testing::{DISCARDED, Handler, World},
};

#[expect(clippy::disallowed_methods, reason = "the job occupies a thread of the pool")]
fn upper(text: &str) -> Result<Output, Failure> {
    match text {
        "largest" => Ok(Output { result: vec![b'1'; MAX_RESULT].into(), summary: String::new() }),
        "too large" => Ok(Output { result: vec![b'1'; MAX_RESULT + 1].into(), summary: String::new() }),
        "bad" => Err(Failure::new(FailureKind::Damaged, "it is bad")),
        "panic" => panic!("a fault in the handler"),
        "slow" => {
            std::thread::sleep(Duration::from_millis(20));
            Output::json(&"SLOW", "SLOW")
        }
        text => Output::json(&text.to_uppercase(), text.to_uppercase()),
    }
}

async fn runner(world: &World) -> JobRunner {
    runner_with(world, Collector::default()).await
}

async fn runner_with(world: &World, collector: Collector) -> JobRunner {
    let options = Options {
        handler: Arc::new(Handler(upper)),
        threads: 1,
        results: world.results.clone(),
        replies: ReplySender::new(world.queues.clone(), world.settings.queue.speaker.clone()),
        instance: "i-1".into(),
        collector,
    };
    JobRunner::start(options).await.expect("started")
}

fn nobody() -> oneshot::Sender<()> {
    oneshot::channel().0
}

/// Runs and persists the next job of the queue.
async fn do_next(world: &World, runner: &JobRunner) -> CloudResult<()> {
    let delivery = world.receive().await;
    let finished = runner.run(delivery, nobody()).await.expect("a job");
    runner.persist(&finished).await
}

#[tokio::test]
async fn a_reply_is_sent_before_the_result_is_stored() {
    let world = World::new().await;
    let runner = runner(&world).await;
    assert_eq!(runner.service_time().get(), None);
    world.send(&world.job(1, "x")).await;
    let finished = runner.run(world.receive().await, nobody()).await.expect("a job");
    assert_eq!(world.everything().await, [""; 0], "nothing is stored before the reply");
    runner.persist(&finished).await.expect("persisted");
    runner.flush().await.expect("flushed");
    let [reply] = &world.replies().await[..] else { panic!("one reply") };
    assert_eq!((reply.id, reply.outcome.clone(), reply.worker.as_str()), (JobId(1), Ok("\"X\"".into()), "i-1"));
    assert!(reply.worker_ms > 0.0);
    assert_eq!(world.everything().await.len(), 3, "payload, summary and result");
    assert!(runner.service_time().get().is_some(), "the job's time is learned");
}

/// The fleet plans with this time. With the wait for a thread in it, every worker would seem slower than it is.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_a_job_is_that_of_its_thread() {
    let world = World::new().await;
    let runner = runner(&world).await;
    for id in 1..=8 {
        world.send(&world.job(id, "slow")).await;
    }
    let mut deliveries = Vec::new();
    for _ in 1..=8 {
        deliveries.push(world.receive().await);
    }
    let began = Instant::now();
    let run = async |delivery| {
        let finished = runner.run(delivery, nobody()).await.expect("a job");
        runner.persist(&finished).await.expect("persisted");
    };
    futures_util::future::join_all(deliveries.into_iter().map(run)).await;
    let passed = began.elapsed();
    let busy = world.replies().await.iter().map(|reply| reply.worker_ms).sum::<f32>();
    assert!(busy >= 8.0 * 20.0, "{busy} ms");
    assert!(busy <= passed.as_secs_f32() * 1e3, "one thread was busy for {busy} ms of {passed:?}");
}

#[tokio::test]
async fn what_was_measured_is_reported_once_to_the_queue_of_the_reply() {
    let (world, collector) = (World::new().await, Collector::default());
    let _recording = metrics::set_default_local_recorder(&collector);
    let runner = runner_with(&world, collector.clone()).await;
    world.send(&world.job(1, "x")).await;
    world.receive().await; // by a worker that dies
    tokio::time::pause();
    tokio::time::advance(world.settings.queue.visibility * 2).await;
    tokio::time::resume();
    runner.report().await;
    do_next(&world, &runner).await.expect("persisted");
    assert_eq!(world.replies().await.len(), 1, "no report without a job");
    runner.report().await;
    let [report] = &world.replies.receive(10, Duration::ZERO).await.expect("received")[..] else { panic!("a report") };
    let report: WorkerReport = wire::from_bytes(&report.body).expect("a report");
    let labels = |sample: &Sample| sample.labels.iter().map(|(_, value)| value.as_str()).collect::<String>();
    let measured = report.samples.iter().map(|sample| (sample.name.as_str(), labels(sample)));
    let measured: BTreeSet<_> = measured.collect();
    let stage = |stage: &str| ("rollcall_job_stage_duration_seconds", stage.to_owned());
    let expected = [
        ("rollcall_job_duration_seconds", String::new()),
        ("rollcall_job_redeliveries_total", String::new()),
        stage("queue"),
        stage("store"),
    ];
    assert_eq!(measured, BTreeSet::from(expected));
    runner.report().await;
    assert!(world.replies.receive(10, Duration::ZERO).await.expect("received").is_empty());
}

#[tokio::test]
async fn a_job_that_an_earlier_worker_has_done_is_answered_as_it_was_and_not_done_again() {
    let world = World::new().await;
    let runner = runner(&world).await;
    let job = world.job(1, "x");
    world.send(&job).await;
    world.receive().await; // by a worker that dies when it has stored the result
    let earlier = Output::json(&"earlier", "earlier").expect("JSON");
    world.results.store_output(&job, "x".into(), &earlier, "i-0").await.expect("stored");
    tokio::time::pause();
    tokio::time::advance(world.settings.queue.visibility * 2).await;
    tokio::time::resume();
    do_next(&world, &runner).await.expect("persisted");
    assert_eq!(world.replies().await[0].outcome, Ok("\"earlier\"".into()));
    assert_eq!(world.results.output(job.id).await, Ok(Some(earlier)));
    assert_eq!(runner.service_time().get(), None, "it was not done again");
}

#[tokio::test]
async fn a_job_that_fails_is_replied_to_and_its_failure_is_kept() {
    let world = World::new().await;
    let runner = runner(&world).await;
    world.send(&world.job(1, "bad")).await;
    do_next(&world, &runner).await.expect("persisted");
    assert_eq!(world.replies().await[0].outcome, Err(Failure::new(FailureKind::Damaged, "it is bad")));
    let result = world.results.get(JobId(1)).await.expect("read").expect("a result");
    assert_eq!((result.status, world.everything().await.len()), (Status::Failed, 1));
    assert_eq!(runner.service_time().get(), None, "a failure says nothing about the service time");
}

#[tokio::test]
async fn a_panic_of_the_handler_fails_only_its_own_job() {
    let world = World::new().await;
    let runner = runner(&world).await;
    for (id, payload) in [(1, "panic"), (2, "x")] {
        world.send(&world.job(id, payload)).await;
        do_next(&world, &runner).await.expect("persisted");
    }
    let replies: Vec<_> = world.replies().await.into_iter().map(|reply| (reply.id, reply.outcome)).collect();
    let [(JobId(1), Err(failure)), (JobId(2), Ok(_))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(failure.kind, FailureKind::Internal);
    for (id, status) in [(1, Status::Failed), (2, Status::Done)] {
        assert_eq!(world.results.get(JobId(id)).await.expect("read").expect("a result").status, status);
    }
}

#[tokio::test]
async fn a_result_that_no_reply_can_hold_fails_its_job_at_once() {
    let world = World::new().await;
    let runner = runner(&world).await;
    for (id, payload, kind) in
        [(1, "too large", JobKind(1_000)), (2, "too large", DISCARDED), (3, "largest", DISCARDED)]
    {
        world.send(&Job { kind, ..world.job(id, payload) }).await;
        do_next(&world, &runner).await.expect("replied to and persisted");
    }
    let replies: Vec<_> =
        world.replies().await.into_iter().map(|reply| reply.outcome.map(|bytes| bytes.len())).collect();
    let [Err(first), Err(second), Ok(MAX_RESULT)] = &replies[..] else { panic!("{replies:?}") };
    assert!(first == second && first.kind == FailureKind::Internal && first.message.contains("at most"), "{first}");
    assert_eq!(world.results.get(JobId(1)).await.expect("read").expect("a result").status, Status::Failed);
}

#[tokio::test]
async fn nothing_is_stored_for_a_job_kind_whose_results_are_discarded() {
    let world = World::new().await;
    let runner = runner(&world).await;
    for (id, text) in [(1, "x"), (2, "bad")] {
        let stored = world.results.store_payload(JobId(id), Retention::Discard, "a", text.into()).await;
        world.send(&Job { kind: DISCARDED, payload: stored.expect("stored"), ..world.job(id, "") }).await;
        do_next(&world, &runner).await.expect("persisted");
        assert_eq!(world.replies().await.len(), 1, "{text}");
        assert_eq!(world.everything().await, [""; 0], "{text}");
    }
}

#[tokio::test]
async fn a_missing_payload_fails_the_job_with_a_reply() {
    let world = World::new().await;
    let runner = runner(&world).await;
    let payload = Payload::Stored { bucket: world.settings.store.input.clone(), key: "gone".into() };
    world.send(&Job { payload, ..world.job(1, "") }).await;
    do_next(&world, &runner).await.expect("persisted");
    let failure = world.replies().await.remove(0).outcome.expect_err("the job failed");
    assert_eq!(failure.kind, FailureKind::Internal);
}

#[tokio::test]
async fn a_job_cannot_send_its_reply_to_another_queue() {
    let world = World::new().await;
    let runner = runner(&world).await;
    world.send(&Job { reply_to: world.settings.queue.listener.clone(), ..world.job(1, "x") }).await;
    assert!(matches!(do_next(&world, &runner).await, Err(CloudError::Invalid(_))));
    assert_eq!(world.everything().await, [""; 0], "and is not kept, since there was no reply");
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_returned_to_the_queue_for_longer_each_time() {
    let world = World::new().await;
    let runner = runner(&world).await;
    let newer = Message { body: vec![9, 1, 2].into(), group: Some(JobId(1).to_string()), ..Message::default() };
    world.requests.send(vec![newer]).await.remove(0).expect("sent");
    let delivery = world.receive().await;
    for (receives, seconds) in [(1, 20), (2, 40), (3, 80), (40, 600)] {
        let not_run = runner.run(Delivery { receives, ..delivery.clone() }, nobody()).await.err();
        assert_eq!(not_run, Some(NotRun { delay: Duration::from_secs(seconds) }), "after {receives} receives");
    }
}

/// A store from which nothing can be read now.
struct Unreadable(Arc<dyn ObjectStore>, CloudError);

#[async_trait]
impl ObjectStore for Unreadable {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        self.0.put(bucket, key, bytes, when).await
    }
    async fn get(&self, _: &str, _: &str) -> CloudResult<Object> {
        Err(self.1.clone())
    }
    async fn get_if_changed(&self, _: &str, _: &str, _: &ETag) -> CloudResult<Option<Object>> {
        Err(self.1.clone())
    }
    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        self.0.list(bucket, prefix).await
    }
    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        self.0.delete(bucket, key).await
    }
    async fn check(&self, bucket: &str) -> CloudResult<()> {
        self.0.check(bucket).await
    }
}

/// A right that is missing may be there in a minute: after an update, or once a key is enabled again.
#[tokio::test]
async fn a_job_whose_payload_cannot_be_read_now_has_not_failed() {
    for error in [CloudError::Unavailable("slow down".into()), CloudError::Denied("KMS.DisabledException".into())] {
        let world = World::new().await;
        let mut runner = runner(&world).await;
        let down = Arc::new(Unreadable(world.objects.clone(), error));
        runner.options.results = ResultStore::new(down, world.settings.store.clone());
        let stored = world.results.store_payload(JobId(1), Retention::Keep, "a.txt", "large".into()).await;
        world.send(&Job { payload: stored.expect("stored"), ..world.job(1, "") }).await;
        let delivery = world.receive().await;
        tokio::time::pause(); // the calls are repeated for half a minute
        let not_run = runner.run(delivery.clone(), nobody()).await.err();
        assert_eq!(not_run, Some(NotRun { delay: Duration::from_secs(2) }));
        tokio::time::resume();
        assert!(world.replies().await.is_empty(), "nobody is told that it has failed");
        runner.options.results = world.results.clone();
        let finished = runner.run(delivery, nobody()).await.expect("run");
        runner.persist(&finished).await.expect("persisted");
        assert_eq!(world.results.get(JobId(1)).await.expect("read").expect("a result").status, Status::Done);
    }
}

#[tokio::test]
async fn the_result_of_a_job_is_kept_although_the_web_node_that_sent_it_is_gone() {
    let world = World::new().await;
    let runner = runner(&world).await;
    let reply_to = format!("{}-gone", world.settings.queue.speaker);
    world.send(&Job { reply_to, ..world.job(1, "x") }).await;
    do_next(&world, &runner).await.expect("persisted");
    assert_eq!(world.results.get(JobId(1)).await.expect("read").expect("a result").status, Status::Done);
}

/// Queues of which none can be used.
struct Refusing(CloudError);

#[async_trait]
impl Queues for Refusing {
    fn polling(&self) -> Polling {
        unreachable!("nobody polls a reply queue here")
    }
    async fn open(&self, _: &str) -> CloudResult<Arc<dyn Queue>> {
        Err(self.0.clone())
    }
    async fn create(&self, _: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn the_result_of_a_job_is_kept_although_its_reply_may_not_be_sent() {
    let world = World::new().await;
    let mut runner = runner(&world).await;
    let refusing = |error| ReplySender::new(Arc::new(Refusing(error)), world.settings.queue.speaker.clone());
    runner.options.replies = refusing(CloudError::Denied("no right".into()));
    world.send(&world.job(1, "x")).await;
    do_next(&world, &runner).await.expect("persisted");
    assert_eq!(world.results.get(JobId(1)).await.expect("read").expect("a result").status, Status::Done);

    // Any other error may be over when the job is done again.
    for (id, error) in [(2, CloudError::Invalid("x".into())), (3, CloudError::Conflict("x".into()))] {
        runner.options.replies = refusing(error.clone());
        world.send(&world.job(id, "x")).await;
        let finished = runner.run(world.receive().await, nobody()).await.expect("a job");
        assert_eq!(runner.persist(&finished).await, Err(error));
        assert!(world.results.get(JobId(id)).await.expect("read").is_none());
    }
}

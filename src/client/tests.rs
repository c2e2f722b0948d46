//! What a client may send, how its jobs look on the queue, and what the fleet is told of them.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::*;
use crate::{
    actors::{actor_ref::ActorRef, guardian::Guardian, queue_poller::QueuePoller, reply_router::ReplyRouter},
    results::Status,
    testing::World,
};

const INLINE_LIMIT: usize = 8;

/// Keeps the hints that it receives.
struct Hints(Arc<Mutex<Vec<u64>>>);

impl actix::Actor for Hints {
    type Context = actix::Context<Self>;
}

impl actix::Handler<DemandHint> for Hints {
    type Result = ();
    fn handle(&mut self, DemandHint { waiting }: DemandHint, _: &mut Self::Context) {
        self.0.lock().expect("hints").push(waiting);
    }
}

fn client(world: &World) -> JobClient {
    client_and_hints(world).0
}

fn client_and_hints(world: &World) -> (JobClient, Arc<Mutex<Vec<u64>>>) {
    let mut guardian = Guardian::builder();
    let (fleet, hints) = (guardian.actor_ref::<Hints>("fleet"), Arc::default());
    let kept = Arc::clone(&hints);
    guardian.supervise(&fleet, move |_| Hints(Arc::clone(&kept)));
    let router = guardian.actor_ref::<ReplyRouter>("router");
    let done = ActorRef::<QueuePoller>::new("nobody").sender();
    guardian.supervise(&router, move |notice| ReplyRouter::new(done.clone(), None, notice));
    guardian.start().expect("every actor was added");
    let ports = Ports {
        requests: world.requests.clone(),
        results: world.results.clone(),
        register: router.sender(),
        forget: router.sender(),
    };
    let options = Options {
        max_waiting: 2,
        max_memory: 4 * PAGE,
        // Far longer than it takes to send a job, also on a slow disk.
        deadline: Duration::from_secs(2),
        inline_limit: INLINE_LIMIT,
        reply_to: "replies".into(),
    };
    (JobClient::new(options, ports, Some(fleet.sender()), Headroom::unlimited(), FleetHistory::default()), hints)
}

fn submission(id: u128, payload: &'static [u8]) -> Submission {
    let (id, kind, retention) = (JobId(id), JobKind(1_000), Retention::Keep);
    Submission {
        id,
        kind,
        retention,
        file: "a.txt".into(),
        payload: Bytes::from_static(payload),
        dataset: String::new(),
        min_version: 3,
    }
}

#[actix::test]
async fn the_number_of_waiting_jobs_is_limited() {
    let world = World::new().await;
    let client = client(&world);
    let first = client.admit().expect("a place");
    let _second = client.admit().expect("a place");
    assert_eq!(client.waiting(), 2);
    assert!(matches!(client.admit(), Err(SubmitError::Overloaded { .. })));
    drop(first);
    assert_eq!(client.waiting(), 1);
    client.admit().expect("the place is free again");
}

#[actix::test]
async fn payload_memory_is_limited_and_released() {
    let world = World::new().await;
    let client = client(&world);
    let (mut one, mut two) = (client.admit().expect("a place"), client.admit().expect("a place"));
    client.reserve(&mut one, PAGE / 2).expect("memory");
    client.reserve(&mut one, PAGE / 2).expect("the page that it has already");
    client.reserve(&mut one, 2 * PAGE).expect("memory");
    client.reserve(&mut two, PAGE).expect("the last page");
    assert!(matches!(client.reserve(&mut two, 1), Err(SubmitError::Overloaded { .. })));
    drop(one);
    client.reserve(&mut two, PAGE).expect("the memory is free again");
}

#[actix::test]
async fn a_job_is_pending_and_in_the_queue_when_it_is_accepted() {
    let world = World::new().await;
    let client = client(&world);
    for (id, payload) in [(1, &b"12345678"[..]), (2, b"123456789")] {
        client.submit_async(client.admit().expect("a place"), submission(id, payload)).await.expect("accepted");
        assert_eq!(world.results.get(JobId(id)).await.expect("read").expect("a result").status, Status::Pending);
        let delivery = world.receive().await;
        let job: Job = wire::from_bytes(&delivery.body).expect("a job");
        assert_eq!((job.id, job.kind, job.file.as_str(), job.min_version), (JobId(id), JobKind(1_000), "a.txt", 3));
        assert_eq!(job.reply_to, "replies");
        let inline = matches!(job.payload, Payload::Inline(_));
        assert_eq!(inline, payload.len() <= INLINE_LIMIT, "larger payloads go through the store");
        assert_eq!(world.results.payload(&job).await.expect("read"), payload);
    }
    assert_eq!(client.waiting(), 0, "places are released");
    // The id is the deduplication id: the queue takes a job once.
    client.submit_async(client.admit().expect("a place"), submission(1, b"x")).await.expect("accepted");
    assert_eq!(world.requests.depth().await.expect("a depth").total(), 2, "both are in flight, and no third");
}

#[actix::test]
async fn a_job_whose_result_is_discarded_leaves_no_pending_result() {
    let world = World::new().await;
    let client = client(&world);
    tokio::task::yield_now().await; // the router starts
    let submission = Submission { retention: Retention::Discard, ..submission(1, b"x") };
    let error = client.submit(client.admit().expect("a place"), submission, false).await.expect_err("late");
    assert!(matches!(error, SubmitError::Unanswered { .. }), "{error}");
    assert!(world.results.get(JobId(1)).await.expect("read").is_none());
}

#[actix::test]
async fn a_job_without_a_worker_times_out_and_stays_pending() {
    let world = World::new().await;
    let client = client(&world);
    tokio::task::yield_now().await; // the router starts
    let error = client.submit(client.admit().expect("a place"), submission(1, b"x"), false).await.expect_err("late");
    assert!(matches!(error, SubmitError::Deadline { id: JobId(1), .. }), "{error}");
    assert_eq!(world.results.get(JobId(1)).await.expect("read").expect("a result").status, Status::Pending);
    client.ready().await.expect("queue and store can be reached");
}

#[actix::test]
async fn the_fleet_is_notified_as_uploads_start_and_stop_waiting() {
    let world = World::new().await;
    let (client, hints) = client_and_hints(&world);
    tokio::task::yield_now().await; // the actors start
    let submit = |id| client.submit(client.admit().expect("a place"), submission(id, b"x"), false);
    let (one, two) = tokio::join!(submit(1), submit(2));
    assert!(one.is_err() && two.is_err(), "nobody does them");
    tokio::task::yield_now().await; // the last hint arrives
    assert_eq!(*hints.lock().expect("hints"), [1, 2, 1, 0]);
}

#[actix::test]
async fn an_upload_that_is_still_being_received_is_no_demand() {
    let world = World::new().await;
    let (client, hints) = client_and_hints(&world);
    tokio::task::yield_now().await; // the actors start
    let _slow_sender = client.admit().expect("a place");
    let submit = client.submit(client.admit().expect("a place"), submission(1, b"x"), false);
    assert!(submit.now_or_never().is_none(), "it waits, until it is dropped");
    tokio::task::yield_now().await;
    assert_eq!(*hints.lock().expect("hints"), [1, 0]);
}

#[actix::test]
async fn the_fleet_is_notified_when_a_client_hangs_up() {
    let world = World::new().await;
    let (client, hints) = client_and_hints(&world);
    tokio::task::yield_now().await; // the actors start
    let submit = client.submit(client.admit().expect("a place"), submission(1, b"x"), false);
    assert!(submit.now_or_never().is_none(), "it waits, until it is dropped");
    tokio::task::yield_now().await;
    assert_eq!(*hints.lock().expect("hints"), [1, 0]);
}

#[actix::test]
async fn a_job_accepted_asynchronously_keeps_its_demand_hint() {
    let world = World::new().await;
    let (client, hints) = client_and_hints(&world);
    tokio::task::yield_now().await; // the actors start
    client.submit_async(client.admit().expect("a place"), submission(1, b"x")).await.expect("accepted");
    tokio::task::yield_now().await;
    assert_eq!(*hints.lock().expect("hints"), [1]);
}

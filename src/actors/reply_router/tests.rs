//! Each reply goes to every request that waits for it, and to no other.

use actix::ActorContext;
use tokio::sync::mpsc;

use super::*;
use crate::{
    actors::{actor_ref::ActorRef, guardian::Guardian},
    cloud::{Delivery, Receipt},
};

/// Records what it receives: a request, the poller or the fleet.
struct Recorder(mpsc::Sender<String>);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<Routed> for Recorder {
    type Result = ();
    fn handle(&mut self, Routed(reply): Routed, ctx: &mut Self::Context) {
        let _ = self.0.try_send(format!("reply {}", reply.id.0));
        ctx.stop();
    }
}

impl Handler<Done> for Recorder {
    type Result = ();
    fn handle(&mut self, Done(receipt): Done, _: &mut Self::Context) {
        let _ = self.0.try_send(format!("done {}", receipt.0));
    }
}

impl Handler<Served> for Recorder {
    type Result = ();
    fn handle(&mut self, Served { worker, jobs, busy }: Served, _: &mut Self::Context) {
        let _ = self.0.try_send(format!("{worker} served {jobs} in {} ms", busy.as_millis()));
    }
}

struct World {
    router: ActorRef<ReplyRouter>,
    done: mpsc::Receiver<String>,
    served: mpsc::Receiver<String>,
}

impl World {
    fn new() -> Self {
        let mut guardian = Guardian::builder();
        let (done_to, done) = mpsc::channel(64);
        let (served_to, served) = mpsc::channel(64);
        let poller = guardian.actor_ref::<Recorder>("poller");
        let fleet = guardian.actor_ref::<Recorder>("fleet");
        let router = guardian.actor_ref::<ReplyRouter>("router");
        guardian.supervise(&poller, move |_| Recorder(done_to.clone()));
        guardian.supervise(&fleet, move |_| Recorder(served_to.clone()));
        let (done_sender, served_sender) = (poller.sender(), fleet.sender());
        guardian.supervise(&router, move |notice| {
            ReplyRouter::new(done_sender.clone(), Some(served_sender.clone()), notice)
        });
        guardian.start().expect("every actor was added");
        Self { router, done, served }
    }

    /// Registers a request that waits for the reply to job `id`.
    async fn waits(&self, id: u128) -> (mpsc::Receiver<String>, Recipient<Routed>) {
        let (tell, received) = mpsc::channel(8);
        let to = Recorder(tell).start().recipient();
        tokio::task::yield_now().await; // the guardian starts the router
        self.router.sender().ask(Register { id: JobId(id), to: to.clone() }).await.expect("registered");
        (received, to)
    }

    fn deliver(&self, replies: &[(u128, &str, f32)]) {
        let delivery = |(id, worker, worker_ms): &(u128, &str, f32)| {
            let (outcome, worker) = (Ok("{}".into()), (*worker).to_owned());
            let reply = Reply { id: JobId(*id), outcome, worker, worker_ms: *worker_ms };
            let body = wire::to_bytes(&reply).expect("encoded");
            Delivery { body, receipt: Receipt(id.to_string()), receives: 1, group: None }
        };
        self.router.sender().tell(Deliveries(replies.iter().map(delivery).collect()));
    }
}

#[actix::test]
async fn a_reply_goes_to_every_request_that_waits_for_its_job() {
    let mut world = World::new();
    let (mut first, _) = world.waits(1).await;
    let (mut second, _) = world.waits(1).await;
    let (mut other, _) = world.waits(2).await;
    world.deliver(&[(1, "i-1", 10.0)]);
    assert_eq!(first.recv().await.as_deref(), Some("reply 1"));
    assert_eq!(second.recv().await.as_deref(), Some("reply 1"), "a retry waits for the same job");
    assert_eq!(world.done.recv().await.as_deref(), Some("done 1"));
    assert!(other.try_recv().is_err());
    world.deliver(&[(2, "i-1", 10.0)]);
    assert_eq!(other.recv().await.as_deref(), Some("reply 2"));
}

#[actix::test]
async fn a_cancelled_request_receives_no_reply_and_the_others_do() {
    let world = World::new();
    let (mut gone, to) = world.waits(1).await;
    let (mut stays, _) = world.waits(1).await;
    world.router.sender().ask(Forget { id: JobId(1), to }).await.expect("forgotten");
    world.deliver(&[(1, "i-1", 10.0)]);
    assert_eq!(stays.recv().await.as_deref(), Some("reply 1"));
    assert!(gone.try_recv().is_err());
}

#[actix::test]
async fn unclaimed_and_malformed_replies_are_deleted() {
    let mut world = World::new();
    tokio::task::yield_now().await;
    world.deliver(&[(7, "i-1", 1.0)]);
    assert_eq!(world.done.recv().await.as_deref(), Some("done 7"));
    let rubbish = Delivery { body: "?".into(), receipt: Receipt("x".into()), receives: 1, group: None };
    world.router.sender().tell(Deliveries(vec![rubbish]));
    assert_eq!(world.done.recv().await.as_deref(), Some("done x"));
}

#[actix::test]
async fn the_fleet_receives_one_report_per_worker_and_batch() {
    let mut world = World::new();
    tokio::task::yield_now().await;
    world.deliver(&[(1, "i-1", 10.0), (2, "i-2", 5.0), (3, "i-1", 20.0), (4, "i-2", f32::NAN), (5, "i-2", -3.0)]);
    assert_eq!(world.served.recv().await.as_deref(), Some("i-1 served 2 in 30 ms"));
    assert_eq!(world.served.recv().await.as_deref(), Some("i-2 served 3 in 5 ms"), "an invalid time counts as zero");
    world.deliver(&[(6, "i-3", 1e12)]);
    let longest = 12 * 3_600_000;
    assert_eq!(world.served.recv().await, Some(format!("i-3 served 1 in {longest} ms")));
}

#[actix::test]
async fn replies_are_counted_by_outcome_and_reports_of_workers_are_added() {
    let recorder = crate::telemetry::recorder().expect("a recorder").build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let mut world = World::new();
    tokio::task::yield_now().await;
    let failed = |kind| Err(crate::job::Failure::new(kind, "why"));
    let outcomes = [
        (Ok("{}".into()), "i-1"),
        (Ok("{}".into()), "i-1"),
        (failed(FailureKind::Damaged), "i-1"),
        (failed(FailureKind::Internal), "i-1"),
        (failed(FailureKind::Internal), ""),
    ];
    let delivery = |body| Delivery { body, receipt: Receipt("x".into()), receives: 1, group: None };
    let mut batch: Vec<_> = outcomes
        .map(|(outcome, worker)| Reply { id: JobId(1), outcome, worker: worker.into(), worker_ms: 20.0 })
        .iter()
        .map(|reply| delivery(wire::to_bytes(reply).expect("encoded")))
        .collect();
    let value = crate::telemetry::Value::Counted(4);
    let name = "rollcall_job_redeliveries_total".to_owned();
    let report = WorkerReport { samples: vec![crate::telemetry::Sample { name, labels: Vec::new(), value }] };
    batch.push(delivery(wire::to_bytes(&report).expect("encoded")));
    let deliveries = batch.len();
    world.router.sender().tell(Deliveries(batch));
    for _ in 0..deliveries {
        assert_eq!(world.done.recv().await.as_deref(), Some("done x"), "each is deleted");
    }
    let rendered = recorder.handle().render();
    for line in [
        r#"rollcall_jobs_total{outcome="done"} 2"#,
        r#"rollcall_jobs_total{outcome="damaged"} 1"#,
        r#"rollcall_jobs_total{outcome="internal"} 1"#,
        r#"rollcall_jobs_total{outcome="given-up"} 1"#,
        "rollcall_job_redeliveries_total 4",
        r#"rollcall_job_worker_duration_seconds_bucket{le="0.025"} 4"#,
        "rollcall_job_worker_duration_seconds_count 4",
    ] {
        assert!(rendered.lines().any(|found| found == line), "{line} in {rendered}");
    }
}

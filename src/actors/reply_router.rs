//! Routes each reply to the requests that wait for its job. There is one router per web node, so each reply is received
//! only once.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use actix::{Actor, Context, Handler, Message, Recipient};

use super::{
    actor_ref::Sender,
    guardian::DeathNotice,
    instance_fleet::Served,
    queue_poller::{Deliveries, Done, RequestCapacity},
};
use crate::{
    cloud::{InstanceId, MAX_BATCH},
    fleet_history::{Count, FleetHistory},
    job::{FailureKind, JobId, Reply},
    telemetry::WorkerReport,
    wire::{self, Wire as _, WireError},
};

/// Registers `to` for the reply to job `id`. Sent before the job is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register {
    /// The job.
    pub id: JobId,
    /// The request that waits.
    pub to: Recipient<Routed>,
}

/// Tells the router that `to` no longer waits for the reply to job `id`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forget {
    /// The job.
    pub id: JobId,
    /// The request that waited.
    pub to: Recipient<Routed>,
}

/// Carries the reply to a job from the router to the request that waits for it.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Routed(pub Reply);

/// Routes each reply to the requests that wait for its job.
pub struct ReplyRouter {
    /// Several requests may wait for one id, because a client's retry with the same key does not end its first request.
    waiting: HashMap<JobId, Vec<Recipient<Routed>>>,
    done: Sender<Done>,
    served: Option<Sender<Served>>,
    /// Counts the replies.
    history: FleetHistory,
    _notice: DeathNotice,
}

impl ReplyRouter {
    /// Creates a router that sends the receipts of handled replies to `done`, and reports the workers' service times to
    /// `served` if the fleet is in this process.
    pub fn new(done: Sender<Done>, served: Option<Sender<Served>>, notice: DeathNotice) -> Self {
        Self { waiting: HashMap::new(), done, served, history: FleetHistory::default(), _notice: notice }
    }

    /// Counts replies in this history.
    pub fn with_history(self, history: FleetHistory) -> Self {
        Self { history, ..self }
    }

    fn route(&mut self, reply: Reply) {
        self.history.count(Count::Answer);
        if reply.outcome.is_err() {
            self.history.count(Count::Failure);
        }
        if !reply.worker.is_empty() {
            metrics::histogram!("rollcall_job_worker_duration_seconds").record(worker_time(&reply).as_secs_f64());
        }
        metrics::counter!("rollcall_jobs_total", "outcome" => outcome(&reply)).increment(1);
        // No request is waiting if the upload was asynchronous, the deadline has passed, or the job was redelivered.
        // The result is then read from the store.
        for to in self.waiting.remove(&reply.id).unwrap_or_default() {
            to.do_send(Routed(reply.clone()));
        }
    }
}

/// Returns the label of a reply's outcome.
fn outcome(reply: &Reply) -> &'static str {
    match &reply.outcome {
        Ok(_) => "done",
        Err(_) if reply.worker.is_empty() => "given-up",
        Err(failure) => match failure.kind {
            FailureKind::Unsupported => "unsupported",
            FailureKind::Damaged => "damaged",
            FailureKind::TooLarge => "too-large",
            FailureKind::Internal => "internal",
        },
    }
}

/// Adds what a worker has measured to the metrics of this process.
fn replay(body: &[u8]) {
    match wire::from_bytes::<WorkerReport>(body) {
        Ok(report) => report.replay(),
        Err(error) => tracing::warn!(%error, "report of a worker dropped: it cannot be decoded"),
    }
}

/// Returns the service time that a worker reports, sanitised: an invalid duration counts as zero, and a longer one than
/// the longest visibility timeout counts as that timeout.
fn worker_time(reply: &Reply) -> Duration {
    const MOST: Duration = Duration::from_secs(12 * 3600);
    Duration::try_from_secs_f32(reply.worker_ms / 1e3).unwrap_or_default().min(MOST)
}

impl Actor for ReplyRouter {
    type Context = Context<Self>;
}

impl Handler<Register> for ReplyRouter {
    type Result = ();
    fn handle(&mut self, Register { id, to }: Register, _: &mut Self::Context) {
        self.waiting.entry(id).or_default().push(to);
    }
}

impl Handler<Forget> for ReplyRouter {
    type Result = ();
    fn handle(&mut self, Forget { id, to }: Forget, _: &mut Self::Context) {
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.retain(|w| *w != to);
            if waiting.is_empty() {
                self.waiting.remove(&id);
            }
        }
    }
}

impl Handler<RequestCapacity> for ReplyRouter {
    type Result = usize;
    /// Always grants a full batch: earlier replies have been routed by the time this is handled.
    fn handle(&mut self, _: RequestCapacity, _: &mut Self::Context) -> usize {
        MAX_BATCH
    }
}

impl Handler<Deliveries> for ReplyRouter {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, _: &mut Self::Context) {
        let mut served: BTreeMap<String, (u64, Duration)> = BTreeMap::new();
        for delivery in batch {
            match wire::from_bytes::<Reply>(&delivery.body) {
                Ok(reply) => {
                    // No worker has finished a job that was given up.
                    if !reply.worker.is_empty() {
                        let (jobs, busy) = served.entry(reply.worker.clone()).or_default();
                        *jobs += 1;
                        *busy = busy.saturating_add(worker_time(&reply));
                    }
                    self.route(reply);
                }
                Err(WireError::Version { found: WorkerReport::VERSION, .. }) => replay(&delivery.body),
                Err(error) => tracing::warn!(%error, "reply dropped: it cannot be decoded"),
            }
            self.done.tell(Done(delivery.receipt));
        }
        for (worker, (jobs, busy)) in served {
            if let Some(fleet) = &self.served {
                fleet.tell(Served { worker: InstanceId(worker), jobs, busy });
            }
        }
    }
}

#[cfg(test)]
mod tests;

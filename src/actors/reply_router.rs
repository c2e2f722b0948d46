//! Job id → the request that waits for it. One router a web node: each reply is received once and goes to its request.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use actix::{Actor, Context, Handler, Recipient};

use super::{
    guardian::{DeathNotice, Link},
    messages::{Answer, Deliveries, Done, Forget, Register, RequestCapacity, Served},
    queue_poller::BATCH,
};
use crate::{
    cloud::InstanceId,
    wire::{self, JobId, Reply},
};

/// See the module.
pub struct ReplyRouter {
    /// Several requests may wait for one id: a client that retries with its own key does not end its first try.
    waiting: HashMap<JobId, Vec<Recipient<Answer>>>,
    done: Link<Done>,
    served: Link<Served>,
    _notice: DeathNotice,
}

impl ReplyRouter {
    /// `done` takes the receipts of replies that were routed, and `served` hears how long the workers took.
    pub fn new(done: Link<Done>, served: Link<Served>, notice: DeathNotice) -> Self {
        Self { waiting: HashMap::new(), done, served, _notice: notice }
    }

    fn route(&mut self, reply: Reply) {
        metrics::histogram!("rollcall_worker_seconds").record(f64::from(reply.worker_ms) / 1e3);
        // Nobody waits: an asynchronous upload, one past its deadline, or a second delivery. The store has the result.
        for to in self.waiting.remove(&reply.id).unwrap_or_default() {
            to.do_send(Answer(reply.clone()));
        }
    }
}

/// A worker may say anything: what is no time counts as none, and no job takes longer than a visibility can be extended.
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
    /// Replies are routed as they come: the question was in the mailbox behind those before.
    fn handle(&mut self, _: RequestCapacity, _: &mut Self::Context) -> usize {
        BATCH
    }
}

impl Handler<Deliveries> for ReplyRouter {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, _: &mut Self::Context) {
        let mut served: BTreeMap<String, (u64, Duration)> = BTreeMap::new();
        for delivery in batch {
            match wire::from_bytes::<Reply>(&delivery.body) {
                Ok(reply) => {
                    let (jobs, busy) = served.entry(reply.worker.clone()).or_default();
                    *jobs += 1;
                    *busy = busy.saturating_add(worker_time(&reply));
                    self.route(reply);
                }
                Err(error) => tracing::warn!(%error, "unreadable reply dropped"),
            }
            self.done.tell(Done(delivery.receipt));
        }
        for (worker, (jobs, busy)) in served {
            self.served.tell(Served { worker: InstanceId(worker), jobs, busy });
        }
    }
}

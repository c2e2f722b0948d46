//! Runs the pure core of the fleet: events in, actions out. Every call to the cloud runs concurrently with the actor,
//! on owned data, and its result arrives as an event.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle,
    WrapFuture,
};
use tokio::{sync::watch, time::Instant};

use super::guardian::DeathNotice;
use crate::{
    clock::now_ms,
    cloud::{Compute, InstanceId, Queue},
    fleet::{Action, Degraded, Event, FleetCore, Refused, RememberedBoots, Timestamp, view::FleetView},
    fleet_log::EventRecorder,
    fleet_memory::{self, BootMemory, BootsKeeper, Found, Memory},
    fleet_metrics::FleetMetrics,
};

/// Tells the fleet how many uploads wait in this process. Sent with each upload, so that the fleet grows without
/// waiting for a poll, and when the number has halved.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DemandHint {
    /// Jobs that wait.
    pub waiting: u64,
}

/// Reports jobs that a worker has finished. The router sends one per worker for each batch of
/// replies.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Served {
    /// The worker's instance.
    pub worker: InstanceId,
    /// Number of jobs.
    pub jobs: u64,
    /// Total time that they took.
    pub busy: Duration,
}

/// Asks the fleet to launch and start no more instances, because the process is ending or leads no longer. The answer comes
/// when what was learned has been kept.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// Whether this process still leads: otherwise another one has taken over and keeps what it learns.
    pub leads: bool,
}

/// Shortest time between two publications of the view.
const MIN_PUBLISH_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the pure core of the fleet, and carries out its actions.
pub struct InstanceFleet {
    core: FleetCore,
    recorder: Option<EventRecorder>,
    origin: Instant,
    compute: Arc<dyn Compute>,
    requests: Arc<dyn Queue>,
    view: Arc<watch::Sender<Arc<FleetView>>>,
    wake: Option<SpawnHandle>,
    /// When the view was last published.
    published: Option<Instant>,
    /// Whether a delayed publication is scheduled.
    publish_due: bool,
    memory: Option<Memory>,
    /// The revision of what was learned that is in the store.
    kept: Option<u64>,
    boots: BootsKeeper,
    metrics: FleetMetrics,
    _notice: DeathNotice,
}

impl InstanceFleet {
    /// Creates the actor. The clock of `core` starts now. Its events go to `recorder`, and its view is published to
    /// `view`.
    pub fn new(
        core: FleetCore,
        recorder: Option<EventRecorder>,
        compute: Arc<dyn Compute>,
        requests: Arc<dyn Queue>,
        view: Arc<watch::Sender<Arc<FleetView>>>,
        notice: DeathNotice,
    ) -> Self {
        Self {
            core,
            recorder,
            origin: Instant::now(),
            compute,
            requests,
            view,
            wake: None,
            published: None,
            publish_due: false,
            memory: None,
            kept: None,
            boots: BootsKeeper::default(),
            metrics: FleetMetrics::default(),
            _notice: notice,
        }
    }

    /// Begins with what an earlier controller has kept in `memory`, and keeps there what is learned, if the policy learns.
    pub fn with_memory(self, memory: Memory) -> Self {
        let memory = self.core.learned_state().map(|_| memory);
        Self { memory, ..self }
    }

    /// Begins with the failed boots that an earlier controller has remembered in `memory`, and remembers its own there.
    pub fn with_boot_memory(self, memory: Option<BootMemory>) -> Self {
        Self { boots: BootsKeeper::new(memory), ..self }
    }

    /// Restores what an earlier controller knew, and then decides for the first time. No message is processed until then.
    fn remember(&mut self, ctx: &mut Context<Self>) {
        let (memory, boots) = (self.memory.clone(), self.boots.memory.clone());
        let learned = async move { Some(memory?.read().await) };
        let boots = async move { boots?.read().await };
        let read = async move { tokio::join!(learned, boots) }.into_actor(self);
        ctx.wait(read.map(|(learned, boots), act, ctx| {
            if let Some(boots) = boots {
                act.boots.begin();
                act.step(Event::BootsRestored { boots }, ctx);
                act.boots.end(Some(act.core.remembered_boots()));
            }
            match learned {
                Some(Found::State(state)) => {
                    act.step(Event::Restored { state }, ctx);
                    act.kept = act.core.learned_state().map(|(revision, _)| revision);
                }
                Some(Found::Unknown) => act.memory = None,
                Some(Found::Nothing) | None => {}
            }
            act.step(Event::Tick, ctx);
            if act.memory.is_some() {
                ctx.run_interval(fleet_memory::EVERY, |act, ctx| act.keep_learned(ctx));
            }
        }));
    }

    /// Writes the count of failed boots as soon as it changes: each costs money.
    fn keep_boots(&mut self, ctx: &mut Context<Self>) {
        let boots = self.core.remembered_boots();
        let Some(memory) = self.boots.due(&boots) else { return };
        self.boots.begin();
        let writing = boots.clone();
        let write = async move { memory.write(writing).await }.into_actor(self);
        ctx.spawn(write.map(move |written, act, ctx| {
            if written {
                act.boots.end(Some(boots));
                act.keep_boots(ctx);
            } else {
                ctx.run_later(fleet_memory::RETRY, |act, ctx| {
                    act.boots.end(None);
                    act.keep_boots(ctx);
                });
            }
        }));
    }

    /// Returns what has been learned since it was last kept, with its revision.
    fn to_keep(&self) -> Option<(Memory, u64, String)> {
        let memory = self.memory.clone()?;
        let (revision, state) = self.core.learned_state().filter(|(revision, _)| self.kept != Some(*revision))?;
        Some((memory, revision, state))
    }

    fn keep_learned(&mut self, ctx: &mut Context<Self>) {
        let Some((memory, revision, state)) = self.to_keep() else { return };
        let write = async move { memory.write(state).await }.into_actor(self);
        ctx.spawn(write.map(move |written, act, _| {
            if written {
                act.kept = Some(revision);
            }
        }));
    }

    fn now(&self) -> Timestamp {
        Timestamp::new(self.origin.elapsed())
    }

    fn step(&mut self, event: Event, ctx: &mut Context<Self>) {
        let now = self.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.record(now, &event);
        }
        self.metrics.event(&event);
        let (was_degraded, was_refused) = (self.core.degraded().is_some(), self.core.refused().is_some());
        let step = self.core.step(event, now);
        self.metrics.stepped(&self.core);
        self.keep_boots(ctx);
        match self.core.degraded() {
            Some(Degraded { failed_boots, reason, .. }) if !was_degraded => {
                tracing::error!(failed_boots, reason, "the fleet is degraded: one instance is tried at a time");
            }
            None if was_degraded => tracing::info!("an instance is ready: the fleet is no longer degraded"),
            _ => {}
        }
        match self.core.refused() {
            Some(Refused { requests, reason, .. }) if !was_refused => {
                tracing::error!(requests, reason, "the fleet is degraded: it gets no instance");
            }
            None if was_refused => tracing::info!("the fleet gets instances again, or needs none"),
            _ => {}
        }
        for action in step.actions {
            self.metrics.action(&action);
            self.perform(action, ctx);
        }
        self.publish_throttled(ctx);
        if let Some(old) = self.wake.take() {
            ctx.cancel_future(old);
        }
        if let Some(at) = step.wake_at {
            let wait = at.saturating_since(self.now());
            self.wake = Some(ctx.run_later(wait, |act, ctx| {
                act.wake = None;
                act.step(Event::Tick, ctx);
            }));
        }
    }

    /// Publishes the view of the fleet and the idle limits of its workers, at most once per [`MIN_PUBLISH_INTERVAL`]: with thousands of jobs per second it
    /// changes far more often than a client can display it.
    fn publish_throttled(&mut self, ctx: &mut Context<Self>) {
        let wait = self.published.map_or(Duration::ZERO, |at| MIN_PUBLISH_INTERVAL.saturating_sub(at.elapsed()));
        if wait.is_zero() {
            self.published = Some(Instant::now());
            self.view.send_replace(Arc::new(FleetView::new(&self.core, self.now(), now_ms())));
            if let Some(limits) = self.core.idle_limits() {
                self.compute.limit_idle(&limits);
            }
        } else if !self.publish_due {
            self.publish_due = true;
            ctx.run_later(wait, |act, ctx| {
                act.publish_due = false;
                act.publish_throttled(ctx);
            });
        }
    }

    fn perform(&mut self, action: Action, ctx: &mut Context<Self>) {
        let (compute, requests) = (self.compute.clone(), self.requests.clone());
        let done = async move {
            match action {
                Action::ReadDepth => Event::Depth(requests.depth().await),
                Action::Describe { generation } => Event::Described { generation, result: compute.describe().await },
                Action::Launch { token, count } => {
                    let result = compute.launch(&token, count).await;
                    Event::Launched { token, result }
                }
                Action::Start { ids } => {
                    let results = compute.start(&ids).await;
                    Event::Started { results: ids.into_iter().zip(results).collect() }
                }
                Action::Terminate { ids, .. } => {
                    let results = compute.terminate(&ids).await;
                    Event::Terminated { results: ids.into_iter().zip(results).collect() }
                }
            }
        };
        ctx.spawn(done.into_actor(self).map(|event, act, ctx| act.step(event, ctx)));
    }

    /// Steps the core whenever the cloud reports a change, if it can report changes.
    fn follow_changes(&mut self, ctx: &mut Context<Self>) {
        let Some(mut changes) = self.compute.changes() else { return };
        let next = async move { changes.changed().await.is_ok() }.into_actor(self);
        ctx.spawn(next.map(|alive, act, ctx| {
            if alive {
                act.step(Event::Changed, ctx);
                act.follow_changes(ctx);
            }
        }));
    }
}

impl Actor for InstanceFleet {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.follow_changes(ctx);
        if self.memory.is_some() || self.boots.memory.is_some() {
            self.remember(ctx);
        } else {
            self.step(Event::Tick, ctx);
        }
    }
}

impl Handler<DemandHint> for InstanceFleet {
    type Result = ();
    fn handle(&mut self, DemandHint { waiting }: DemandHint, ctx: &mut Self::Context) {
        self.step(Event::Hint { waiting }, ctx);
    }
}

impl Handler<Served> for InstanceFleet {
    type Result = ();
    fn handle(&mut self, Served { worker, jobs, busy }: Served, ctx: &mut Self::Context) {
        self.step(Event::Served { worker, jobs, busy }, ctx);
    }
}

impl Handler<Retire> for InstanceFleet {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, Retire { leads }: Retire, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        let learned = self.to_keep().filter(|_| leads);
        // Whoever ends a controller in order may have repaired what fails.
        let boots = self.core.remembered_boots().map(RememberedBoots::with_attempt_at_once);
        let boots = self.boots.memory.clone().zip(boots).filter(|_| leads);
        Box::pin(async move {
            let learned = async {
                if let Some((memory, _, state)) = learned {
                    memory.write(state).await;
                }
            };
            let boots = async {
                if let Some((memory, boots)) = boots {
                    memory.write(Some(boots)).await;
                }
            };
            tokio::join!(learned, boots);
        })
    }
}

/// Terminates all instances, for a process that owns them and is ending.
pub async fn terminate_all(compute: &dyn Compute) {
    match compute.describe().await {
        Ok(instances) => {
            let ids: Vec<InstanceId> = instances.into_iter().filter(|i| i.state.counts()).map(|i| i.id).collect();
            for error in compute.terminate(&ids).await.into_iter().filter_map(Result::err) {
                tracing::warn!(%error, "instance not terminated");
            }
        }
        Err(error) => tracing::warn!(%error, "instances not described"),
    }
}

#[cfg(test)]
mod tests;

//! One worker: its models, its jobs, its end.

use std::{sync::Arc, time::Duration};

use actix::Actor as _;
use anyhow::Context as _;
use tokio::time::Instant;

use super::{poller_options, wait_for_signal};
use crate::{
    actors::{
        guardian::{Factory, Guardian, fail_fast},
        idle_timer::IdleTimer,
        instance_supervisor::{self, End, InstanceSupervisor, Links, Why},
        queue_poller::{Owner, PollerOptions, QueuePoller},
    },
    cloud::{Metadata, ObjectStore, Queue, Queues},
    fleet::IdleStop,
    inference::{factory::factory, gallery_cache::GalleryCache, gallery_store::GalleryStore, pool::Pool},
    results::ResultStore,
    settings::{CloudKind, Settings},
    worker::{job_runner::JobRunner, prefetch::Prefetch},
};

/// How long before a thread is usually free the next job is asked for, so that it is there when it can be begun: the time
/// of a receive from a queue nearby. Where a call costs nothing, no job is asked for any earlier.
const LEAD: Duration = Duration::from_millis(5);

/// The ports of one worker.
pub struct Ports {
    pub queues: Arc<dyn Queues>,
    pub objects: Arc<dyn ObjectStore>,
    pub metadata: Arc<dyn Metadata>,
}

/// Loads and warms the models, says that it is ready, and serves jobs until idle, asked, or interrupted.
pub async fn run(settings: Settings, ports: Ports) -> anyhow::Result<()> {
    let born = Instant::now();
    let Ports { queues, objects, metadata } = ports;
    let instance = metadata.instance_id().await.context("own instance id")?.0;
    let store = GalleryStore::new(objects.clone(), settings.store.state.clone(), settings.gallery.clone());
    let gallery = Arc::new(GalleryCache::new(store));
    gallery.refresh().await.context("gallery")?;
    let threads = settings.worker.threads;
    let pool = Pool::start(threads, factory(&settings.recognition)).await?;
    let listener = queues.open(&settings.queue.listener).await.context("request queue")?;
    metadata.ready().await.context("ready report")?;
    tracing::info!(%instance, threads, "ready");

    let runner = JobRunner {
        pool,
        gallery: gallery.clone(),
        results: ResultStore::new(objects, settings.store.clone()),
        queues,
        replies: Default::default(),
        learned: Default::default(),
        speaker: settings.queue.speaker.clone(),
        instance,
        max_receives: settings.queue.max_receives,
    };
    let links = Links::default();
    start_actors(&settings, born, listener, runner, metadata, &links);

    let refresh = settings.gallery.refresh;
    actix::spawn(async move {
        loop {
            tokio::time::sleep(refresh).await;
            if let Err(error) = gallery.refresh().await {
                tracing::warn!(%error, "gallery not refreshed");
            }
        }
    });
    actix::spawn(async move {
        wait_for_signal().await;
        links.end.tell(End(Why::Asked));
    });
    Ok(())
}

fn start_actors(
    settings: &Settings,
    born: Instant,
    listener: Arc<dyn Queue>,
    runner: JobRunner,
    metadata: Arc<dyn Metadata>,
    links: &Links,
) {
    let supervisor: Factory = {
        let prefetch = match settings.cloud.kind {
            CloudKind::Local => Prefetch { lead: LEAD, max_prefetch_delay: LEAD },
            CloudKind::Aws => Prefetch { lead: LEAD, max_prefetch_delay: LEAD.max(settings.aws.linger) },
        };
        let (threads, drain_timeout) = (settings.worker.threads, settings.worker.drain_timeout);
        let limits = instance_supervisor::Limits { threads, prefetch, drain_timeout };
        let (links, runner) = (links.clone(), Arc::new(runner));
        // Were it rebuilt, the poller would hold messages of jobs that went with it.
        fail_fast(move |notice| {
            let supervisor = InstanceSupervisor::new(runner, limits, metadata, links.clone(), notice).start();
            links.capacity.set(supervisor.clone().recipient());
            links.deliveries.set(supervisor.clone().recipient());
            links.quiet.set(supervisor.clone().recipient());
            links.drained.set(supervisor.clone().recipient());
            links.idle_expired.set(supervisor.clone().recipient());
            links.end.set(supervisor.recipient());
        })
    };
    let poller: Factory = {
        let options = PollerOptions {
            // A drain that waits for a poll must still end in its time.
            wait: settings.worker.idle_stop.min(settings.worker.drain_timeout / 2),
            pace: Duration::ZERO, // it looks ahead
            ..poller_options(settings)
        };
        let links = links.clone();
        Box::new(move |notice| {
            let owner = Owner {
                capacity: links.capacity.clone(),
                deliveries: links.deliveries.clone(),
                quiet: links.quiet.clone(),
                drained: links.drained.clone(),
            };
            let poller = QueuePoller::new(listener.clone(), options.clone(), owner, notice).start();
            links.done.set(poller.clone().recipient());
            links.abandon.set(poller.clone().recipient());
            links.final_poll.set(poller.clone().recipient());
            links.drain.set(poller.recipient());
        })
    };
    let timer: Factory = {
        let limits = IdleStop { idle: settings.worker.idle_stop, paid: settings.fleet.billing_minimum };
        let links = links.clone();
        Box::new(move |notice| {
            let timer = IdleTimer::new(limits, born, links.idle_expired.clone(), notice).start();
            links.busy.set(timer.clone().recipient());
            links.idle.set(timer.recipient());
        })
    };
    let wards = [("idle timer", timer), ("instance supervisor", supervisor), ("queue poller", poller)];
    let guardian = Guardian::new(wards).start();
    links.stand_down.set(guardian.recipient());
}

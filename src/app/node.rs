//! The actors of a node: those behind its job client, the consumer of dead letters, and the controller.

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::queues::{ClusterQueues, poller_options};
use crate::{
    actors::{
        actor_ref::{ActorRef, Sender},
        dead_letter_consumer::{self, DeadLetterConsumer},
        guardian::GuardianBuilder,
        instance_fleet::InstanceFleet,
        queue_poller::{Drain, Owner, QueuePoller},
        reply_router::ReplyRouter,
        web_request::Ports,
    },
    client::{JobClient, Options},
    clock::now_ms,
    cloud::{Compute, ObjectStore, Queue, Queues, headroom::Headroom, polling::PollerOptions},
    fleet::{FleetCore, view::FleetView},
    fleet_history::FleetHistory,
    fleet_log::EventRecorder,
    fleet_memory::{BootMemory, Memory},
    inference::handler::retention,
    results::ResultStore,
    settings::Settings,
    worker::reply_sender::ReplySender,
};

/// Adds the reply router and the reply poller, and returns a client that uses them. `fleet` is the controller's actor,
/// if it is in this process. Nothing is accepted without `headroom`.
pub(super) fn add_client(
    guardian: &mut GuardianBuilder,
    settings: &Settings,
    queues: &ClusterQueues,
    objects: Arc<dyn ObjectStore>,
    fleet: Option<&ActorRef<InstanceFleet>>,
    headroom: Headroom,
) -> JobClient {
    let router = guardian.actor_ref::<ReplyRouter>("reply router");
    let poller = guardian.actor_ref::<QueuePoller>("reply poller");

    let (done, served) = (poller.sender(), fleet.map(ActorRef::sender));
    let history = FleetHistory::default();
    let counted = history.clone();
    guardian.supervise(&router, move |notice| {
        ReplyRouter::new(done.clone(), served.clone(), notice).with_history(counted.clone())
    });

    let (replies, options) = (queues.replies.clone(), poller_options(settings, queues.polling));
    let options = PollerOptions { max_receives: queues.polling.max_receives, ..options };
    let owner = Owner::of_endless(&router);
    guardian
        .supervise(&poller, move |notice| QueuePoller::new(replies.clone(), options.clone(), owner.clone(), notice));

    let ports = Ports {
        requests: queues.requests.clone(),
        results: ResultStore::new(objects, settings.store.clone()),
        register: router.sender(),
        forget: router.sender(),
    };
    let options = Options {
        max_waiting: settings.http.max_waiting,
        max_memory: settings.http.max_upload_memory,
        deadline: settings.http.deadline,
        inline_limit: settings.queue.inline_limit,
        reply_to: settings.queue.speaker.clone(),
    };
    JobClient::new(options, ports, fleet.map(ActorRef::sender), headroom, history)
}

/// What the consumer of dead letters needs.
#[derive(Clone)]
pub(super) struct DeadLetterPorts {
    pub queue: Arc<dyn Queue>,
    /// All queues of the cluster, for replies, and how they are polled.
    pub queues: Arc<dyn Queues>,
    /// Name, or prefix of the names, of the reply queues.
    pub reply_prefix: String,
    pub objects: Arc<dyn ObjectStore>,
    /// Called for each dead letter that has been stored.
    pub on_stored: Arc<dyn Fn() + Send + Sync>,
}

/// Adds the consumer of dead letters and its poller. Returns a sender that ends both.
pub(super) fn add_dead_letter_consumer(
    guardian: &mut GuardianBuilder,
    settings: &Settings,
    ports: DeadLetterPorts,
) -> Sender<Drain> {
    let consumer = guardian.actor_ref::<DeadLetterConsumer>("dead-letter consumer");
    let poller = guardian.actor_ref::<QueuePoller>("dead-letter poller");
    let DeadLetterPorts { queue, queues, reply_prefix, objects, on_stored } = ports;
    let polling = queues.polling();

    let options = Rc::new(dead_letter_consumer::Options {
        results: ResultStore::new(objects, settings.store.clone()),
        replies: ReplySender::new(queues, reply_prefix),
        retention,
        max_receives: settings.queue.max_receives,
        pause: polling.rare_pause,
        on_stored,
    });
    let (done, nack) = (poller.sender(), poller.sender());
    guardian.supervise(&consumer, move |notice| {
        DeadLetterConsumer::new(options.clone(), done.clone(), nack.clone(), notice)
    });

    let (options, owner) = (poller_options(settings, polling), Owner::of_endless(&consumer));
    guardian.supervise(&poller, move |notice| QueuePoller::new(queue.clone(), options.clone(), owner.clone(), notice));
    poller.sender()
}

/// Which replies of its workers a controller sees: replies to the jobs of other nodes go to other queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeesReplies {
    All,
    #[cfg(feature = "aws")]
    OwnOnly,
}

/// What a controller needs.
#[derive(Clone)]
pub(super) struct ControllerPorts {
    pub compute: Arc<dyn Compute>,
    pub requests: Arc<dyn Queue>,
    /// Where it keeps what it learns.
    pub objects: Arc<dyn ObjectStore>,
    /// Where it remembers failed boots, if they cost money.
    pub boots: Option<BootMemory>,
    /// Receives the fleet's view.
    pub view: Arc<watch::Sender<Arc<FleetView>>>,
}

/// Adds the controller, whose launch tokens begin with `epoch`.
pub(super) fn add_controller(
    guardian: &mut GuardianBuilder,
    fleet: &ActorRef<InstanceFleet>,
    settings: &Settings,
    ports: ControllerPorts,
    epoch: impl Fn() -> u64 + 'static,
    sees: SeesReplies,
) {
    let settings = settings.clone();
    guardian.supervise(fleet, move |notice| {
        let mut rules = settings.fleet_rules(Duration::from_millis(now_ms()));
        if sees != SeesReplies::All {
            rules.silent_timeout = None; // a worker may be serving other nodes
        }
        let core = FleetCore::new(rules, epoch());
        let log = settings.fleet.record.as_ref().and_then(|path| {
            let retention = settings.store.retention;
            let before_ms = retention.map(|kept| now_ms().saturating_sub(kept.as_millis() as u64));
            let opened = EventRecorder::open(path, &core, before_ms);
            opened.inspect_err(|error| tracing::warn!(%error, path = %path.display(), "event log not opened")).ok()
        });
        let ControllerPorts { compute, requests, objects, boots, view } = ports.clone();
        let memory = Memory::new(objects, &settings.store.state);
        InstanceFleet::new(core, log, compute, requests, view, notice).with_memory(memory).with_boot_memory(boots)
    });
}

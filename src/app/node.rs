//! The actors of a node: those behind its job client, and those of the controller.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::queues::{ClusterQueues, poller_options};
use crate::{
    actors::{
        actor_ref::ActorRef,
        guardian::GuardianBuilder,
        instance_fleet::InstanceFleet,
        queue_poller::{Owner, QueuePoller},
        reply_router::ReplyRouter,
        web_request::Ports,
    },
    client::{JobClient, Options},
    clock::now_ms,
    cloud::{Compute, ObjectStore},
    fleet::{FleetCore, view::FleetView},
    fleet_log::EventRecorder,
    results::ResultStore,
    settings::Settings,
};

/// Adds the reply router and the reply poller, and returns a client that uses them. `fleet` is the controller's actor,
/// if it is in this process.
pub(super) fn add_client(
    guardian: &mut GuardianBuilder,
    settings: &Settings,
    queues: &ClusterQueues,
    objects: Arc<dyn ObjectStore>,
    fleet: Option<&ActorRef<InstanceFleet>>,
) -> JobClient {
    let router = guardian.actor_ref::<ReplyRouter>("reply router");
    let poller = guardian.actor_ref::<QueuePoller>("reply poller");

    let (done, served) = (poller.sender(), fleet.map(ActorRef::sender));
    guardian.supervise(&router, move |notice| ReplyRouter::new(done.clone(), served.clone(), notice));

    let (replies, options) = (queues.replies.clone(), poller_options(settings, queues.polling));
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
    JobClient::new(options, ports, fleet.map(ActorRef::sender))
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
    pub requests: Arc<dyn crate::cloud::Queue>,
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
            let opened = EventRecorder::open(path, &core);
            opened.inspect_err(|error| tracing::warn!(%error, path = %path.display(), "event log not opened")).ok()
        });
        let ControllerPorts { compute, requests, view } = ports.clone();
        InstanceFleet::new(core, log, compute, requests, view, notice)
    });
}

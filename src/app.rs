//! Composition root: builds the ports, starts the actors and wires their addresses.

#[cfg(feature = "aws")]
pub mod aws;
pub mod worker;

use std::{net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use actix::{Actor, System};
use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    actors::{
        guardian::{Factory, Guardian, Link, StandDown},
        instance_fleet::{InstanceFleet, end_all},
        messages::{Deliveries, DemandHint, Done, Forget, Register, RequestCapacity, Retire, Served},
        queue_poller::{Owner, PollerOptions, QueuePoller},
        reply_router::ReplyRouter,
        web_request::Ports,
        web_tier::WebTier,
    },
    clock::now_ms,
    cloud::{Compute, ObjectStore, Queue, QueueSpec, Queues, local::LocalCloud},
    fleet::{FleetCore, view::FleetView},
    fleet_log::EventRecorder,
    http,
    inference::gallery_store::GalleryStore,
    results::ResultStore,
    settings::{CloudKind, Settings},
};

/// Where no queue does it by itself: how long a delete waits for others to share its call.
const LINGER: Duration = Duration::from_millis(5);
/// Longest poll of a queue that has nothing: as long as any may be.
const POLL: Duration = Duration::from_secs(20);
/// How long uploads that wait may go on after the process was asked to end.
const HTTP_GRACE: Duration = Duration::from_secs(5);

/// Runs a command that ends by itself.
pub fn block_on<T>(command: impl Future<Output = T>) -> T {
    System::new().block_on(command)
}

/// Starts actors and runs them until one of them, or a signal, stops the system; its exit code.
pub fn run(start: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<i32> {
    let system = System::new();
    system.block_on(start)?;
    Ok(system.run_with_code()?)
}

/// Runs web tier, controller and the embedded cloud until a signal; workers are child processes.
pub async fn up(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<()> {
    let listener = listen(&settings)?;
    let address = settings.http.listen;
    let metrics = http::metrics::install().context("metrics")?;
    let cloud = LocalCloud::open(&settings, config).await?;
    let (requests, replies) = create_queues(&settings, &*cloud.queues).await?;

    let node = Node::default();
    let (shown, fleet) = watch::channel(Arc::new(FleetView::default()));
    let [router, poller] = node.web_actors(&settings, replies);
    // A time stamp makes launch tokens of one life differ from those of the life before.
    let controller =
        node.controller(&settings, cloud.compute.clone(), requests.clone(), Arc::new(shown), now_ms, HearsReplies::All);
    let guardian = Guardian::new([router, poller, controller]).start();
    let web = node.web_tier(&settings, cloud.objects.clone(), requests, fleet);
    let http::Serving { server, ending } = http::serve(web, listener, metrics)?;
    let handle = server.handle();
    actix::spawn(server);
    println!("rollcall is serving on http://{address}/ (Ctrl-C ends it)");

    let compute = cloud.compute.clone();
    actix::spawn(async move {
        wait_to_end().await;
        tracing::info!("ending: finishing uploads, then the workers");
        finish_uploads(handle, ending).await;
        guardian.do_send(StandDown);
        if node.retire.ask(Retire).await.is_err() {
            tracing::warn!("the fleet was not there to be retired");
        }
        end_all(&*compute).await;
        cloud.close().await;
        System::current().stop_with_code(0);
    });
    Ok(())
}

/// The queues of a cluster: dead-letter queue, listener, speaker. The first has to be made first.
pub fn queue_specs(settings: &Settings) -> [QueueSpec; 3] {
    let q = &settings.queue;
    let dead_letter = QueueSpec {
        name: q.dead_letter.clone(),
        fifo: true,
        visibility: q.visibility,
        max_receives: u32::MAX,
        dead_letter: None,
        durable: true,
    };
    let listener = QueueSpec {
        name: q.listener.clone(),
        max_receives: q.max_receives,
        dead_letter: Some(q.dead_letter.clone()),
        ..dead_letter.clone()
    };
    let speaker = QueueSpec { name: q.speaker.clone(), fifo: false, durable: false, ..dead_letter.clone() };
    [dead_letter, listener, speaker]
}

/// Makes the three queues; answers with the listener and the speaker.
async fn create_queues(settings: &Settings, queues: &dyn Queues) -> anyhow::Result<(Arc<dyn Queue>, Arc<dyn Queue>)> {
    let [dead_letter, listener, speaker] = queue_specs(settings);
    queues.create(dead_letter).await.context("dead-letter queue")?;
    let listener = queues.create(listener).await.context("request queue")?;
    let speaker = queues.create(speaker).await.context("reply queue")?;
    Ok((listener, speaker))
}

/// How the queues of this cloud are polled. A queue on AWS is far and paid by the call, and lingers by itself.
fn poller_options(settings: &Settings) -> PollerOptions {
    let far = settings.cloud.kind != CloudKind::Local;
    PollerOptions {
        visibility: settings.queue.visibility,
        linger: if far { Duration::ZERO } else { LINGER },
        pace: if far { settings.aws.linger } else { Duration::ZERO },
        wait: POLL,
        finish_poll: far,
    }
}

/// Which replies of its workers a controller hears: those to other nodes' uploads go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HearsReplies {
    All,
    #[cfg(feature = "aws")]
    OwnOnly,
}

/// The ways between a node's actors, and from outside to them.
#[derive(Clone, Default)]
struct Node {
    deliveries: Link<Deliveries>,
    done: Link<Done>,
    capacity: Link<RequestCapacity>,
    register: Link<Register>,
    forget: Link<Forget>,
    hint: Link<DemandHint>,
    retire: Link<Retire>,
    served: Link<Served>,
}

impl Node {
    /// The actors behind the web tier's uploads.
    fn web_actors(&self, settings: &Settings, replies: Arc<dyn Queue>) -> [(&'static str, Factory); 2] {
        let router: Factory = {
            let node = self.clone();
            Box::new(move |notice| {
                let router = ReplyRouter::new(node.done.clone(), node.served.clone(), notice).start();
                node.capacity.set(router.clone().recipient());
                node.deliveries.set(router.clone().recipient());
                node.register.set(router.clone().recipient());
                node.forget.set(router.recipient());
            })
        };
        let poller: Factory = {
            let options = poller_options(settings);
            let node = self.clone();
            Box::new(move |notice| {
                let (capacity, deliveries) = (node.capacity.clone(), node.deliveries.clone());
                let owner = Owner { capacity, deliveries, ..Owner::default() };
                let poller = QueuePoller::new(replies.clone(), options.clone(), owner, notice).start();
                node.done.set(poller.recipient());
            })
        };
        [("reply router", router), ("reply poller", poller)]
    }

    /// The controller, whose launch tokens begin with what `epoch` says.
    fn controller(
        &self,
        settings: &Settings,
        compute: Arc<dyn Compute>,
        requests: Arc<dyn Queue>,
        shown: Arc<watch::Sender<Arc<FleetView>>>,
        epoch: impl Fn() -> u64 + 'static,
        hears: HearsReplies,
    ) -> (&'static str, Factory) {
        let (node, settings) = (self.clone(), settings.clone());
        let factory = Box::new(move |notice| {
            let mut rules = settings.fleet_rules(Duration::from_millis(now_ms()));
            if hears != HearsReplies::All {
                rules.silent_timeout = None; // silence says nothing
            }
            let core = FleetCore::new(rules, epoch());
            let recorder = settings.fleet.record.as_ref().and_then(|path| {
                let opened = EventRecorder::open(path, &core);
                opened
                    .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "no event log of the fleet"))
                    .ok()
            });
            let (compute, requests, shown) = (compute.clone(), requests.clone(), shown.clone());
            let fleet = InstanceFleet::new(core, recorder, compute, requests, shown, notice).start();
            node.hint.set(fleet.clone().recipient());
            node.served.set(fleet.clone().recipient());
            node.retire.set(fleet.recipient());
        });
        ("instance fleet", factory)
    }

    /// What HTTP asks of the actors.
    fn web_tier(
        &self,
        settings: &Settings,
        objects: Arc<dyn ObjectStore>,
        requests: Arc<dyn Queue>,
        fleet: watch::Receiver<Arc<FleetView>>,
    ) -> WebTier {
        let results = ResultStore::new(objects.clone(), settings.store.clone());
        let gallery = GalleryStore::new(objects, settings.store.state.clone(), settings.gallery.clone());
        let ports = Ports { listener: requests, results, register: self.register.clone(), forget: self.forget.clone() };
        WebTier::new(settings.clone(), ports, gallery, self.hint.clone(), fleet)
    }
}

/// Takes the address to serve on before anything else is begun.
fn listen(settings: &Settings) -> anyhow::Result<TcpListener> {
    let address = settings.http.listen;
    TcpListener::bind(address)
        .with_context(|| format!("cannot listen on {address}: is something else running there? Set http.listen"))
}

/// Waits for a signal; a second one ends the process at once.
async fn wait_to_end() {
    wait_for_signal().await;
    actix::spawn(async {
        wait_for_signal().await;
        System::current().stop_with_code(130); // asked twice: at once
    });
}

/// Resolves at a signal; a second one ends the process at once.
#[cfg(feature = "aws")]
pub async fn asked_to_end() {
    wait_for_signal().await;
    actix::spawn(async {
        wait_for_signal().await;
        std::process::exit(130);
    });
}

/// Lets uploads that wait have their answers, for some seconds.
async fn finish_uploads(handle: actix_web::dev::ServerHandle, ending: watch::Sender<bool>) {
    ending.send_replace(true);
    if tokio::time::timeout(HTTP_GRACE, handle.stop(true)).await.is_err() {
        tracing::warn!("uploads were still waiting; their jobs are kept");
    }
}

async fn wait_for_signal() {
    // Signals can be listened to on every Unix; without them the process could not be ended properly.
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

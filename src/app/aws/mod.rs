//! The roles on AWS. The tiers share no memory: a web node has its own reply queue, the controller learns its fleet
//! from EC2, and of several controllers the one with the lease is active.

mod controller;
mod fleet_view;
mod metrics;
mod reply_queues;

use std::{sync::Arc, time::Duration};

use actix::{Addr, System};
use anyhow::Context as _;
use tokio::{sync::watch, task::JoinHandle};

pub(crate) use fleet_view::written as written_view;

use controller::ControllerNode;
use reply_queues::ReplyQueues;

use super::{
    node::{ControllerPorts, DeadLetterPorts, add_client},
    ports::WorkerPorts,
    queues,
    serving::{listen, serve},
    shutdown::wait_to_end,
};
use crate::{
    actors::{
        actor_ref::ActorRef,
        guardian::{Guardian, StandDown},
        instance_fleet::InstanceFleet,
        instance_supervisor::EXIT_UNAVAILABLE,
    },
    client::JobClient,
    cloud::{Compute, ObjectStore, Queues, aws::AwsCloud, headroom::Headroom, metered::Metered},
    fleet::view::FleetView,
    fleet_history::Count,
    fleet_memory::BootMemory,
    settings::Settings,
    telemetry,
};

/// Time between checks whether a node of a stack is ready.
const READY_CHECK: Duration = Duration::from_secs(1);

/// The tiers that a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tiers {
    pub web: bool,
    pub controller: bool,
}

/// A web node, a controller, or both, without HTTP.
pub(super) struct AwsNode {
    cloud: Arc<AwsCloud>,
    objects: Arc<dyn ObjectStore>,
    settings: Settings,
    fleet: watch::Receiver<Arc<FleetView>>,
    reply_queues: Arc<ReplyQueues>,
    web: Option<(JobClient, Addr<Guardian>)>,
    controller: Option<JoinHandle<()>>,
    /// `true` ends the controller.
    end: watch::Sender<bool>,
    /// Whether this node serves clients, if it has the web tier: a version that does not must not lead.
    ready: watch::Sender<bool>,
}

impl AwsNode {
    /// Starts the tiers. `fix` corrects the attributes of existing queues instead of returning an error.
    pub async fn start(mut settings: Settings, tiers: Tiers, fix: bool) -> anyhow::Result<Self> {
        let node_name = node_name();
        let cloud = Arc::new(AwsCloud::connect(&settings, fix).await?);
        if tiers.controller && settings.worker.threads_are_auto {
            settings.worker.threads = threads_of_workers(&cloud, settings.worker.threads).await;
        }
        let reply_queues = Arc::new(ReplyQueues::new(cloud.clone(), &settings, &node_name));
        let reply_prefix = settings.queue.speaker.clone();
        if tiers.web {
            // A node without a controller is one of several.
            let (queue, held) = reply_queues.choose(tiers.controller).await.context("reply queue")?;
            settings.queue.speaker = queue;
            let (reply_queues, [_, _, queue]) = (reply_queues.clone(), queues::specs(&settings));
            actix::spawn(async move { reply_queues.keep(&queue, held).await });
        }
        let all_queues: Arc<dyn Queues> = Arc::new(Metered::<dyn Queues>::new(cloud.queues.clone()));
        let objects: Arc<dyn ObjectStore> = Arc::new(Metered::<dyn ObjectStore>::new(cloud.objects.clone()));
        let queues = queues::create(&settings, &*all_queues).await?;

        let (view, fleet) = watch::channel(Arc::new(FleetView::default()));
        let view = Arc::new(view);
        // The controller's actor lives while the lease is held; its reference always exists.
        let actor = ActorRef::<InstanceFleet>::new("instance fleet");
        let mut web: Option<(JobClient, Addr<Guardian>)> = None;
        if tiers.web {
            let mut guardian = Guardian::builder();
            let here = tiers.controller.then_some(&actor);
            // What limits one machine is its disk; S3 has none, and SQS only estimates how many messages it has.
            let headroom = Headroom::unlimited();
            let client = add_client(&mut guardian, &settings, &queues, objects.clone(), here, headroom);
            web = Some((client, guardian.start()?));
        }
        let (end, ended) = watch::channel(false);
        let (ready, is_ready) = watch::channel(!tiers.web);
        let views = fleet_view::Views::new(&cloud, &settings, view.clone(), fleet.clone());
        let controller = if tiers.controller {
            let compute: Arc<dyn Compute> = Arc::new(Metered::<dyn Compute>::new(cloud.compute.clone()));
            let launches = settings.aws.launch.origin();
            let boots = Some(BootMemory::new(objects.clone(), &settings.store.state, launches));
            let ports = ControllerPorts { compute, requests: queues.requests, objects: objects.clone(), boots, view };
            let metrics = metrics::Metrics::new(&cloud, &settings, fleet.clone());
            let (counted, history) =
                (metrics.dead_letter_counter(), web.as_ref().map(|(client, _)| client.history().clone()));
            let dead_letters = DeadLetterPorts {
                queue: queues.dead_letters,
                queues: all_queues,
                reply_prefix,
                objects: objects.clone(),
                on_stored: Arc::new(move || {
                    counted();
                    if let Some(history) = &history {
                        history.count(Count::DeadLetter);
                    }
                }),
            };
            let (settings, reply_queues) = (settings.clone(), reply_queues.clone());
            let status = cloud.queues.create(queues::status_spec(&settings)).await.context("status queue")?;
            let heartbeats = cloud.compute.heartbeats();
            let node = ControllerNode {
                settings,
                actor,
                compute: cloud.compute.clone(),
                ports,
                dead_letters,
                views,
                metrics,
                reply_queues,
                heartbeats,
                status,
            };
            let lease = controller::lease(&cloud, &node.settings, &node_name, is_ready);
            Some(actix::spawn(async move { node.run(lease, ended).await }))
        } else {
            actix::spawn(async move { views.follow().await });
            None
        };
        Ok(Self { cloud, objects, settings, fleet, reply_queues, web, controller, end, ready })
    }

    /// Returns the client, if the node has the web tier.
    pub fn client(&self) -> Option<JobClient> {
        self.web.as_ref().map(|(client, _)| client.clone())
    }

    /// Returns a receiver of the fleet's view.
    pub fn fleet(&self) -> watch::Receiver<Arc<FleetView>> {
        self.fleet.clone()
    }

    /// Leaves the cluster: deletes the reply queue, then releases the lease. Workers are separate machines and
    /// continue.
    pub async fn stop(self) {
        if let Some((_, guardian)) = self.web {
            guardian.do_send(StandDown);
            if let Err(error) = self.reply_queues.leave(&self.settings.queue.speaker).await {
                tracing::warn!(%error, "reply queue not deleted");
            }
        }
        self.end.send_replace(true);
        if let Some(controller) = self.controller
            && controller.await.is_err()
        {
            tracing::warn!("the controller had died");
        }
    }
}

/// Runs a web node, the controller, or both, until a signal ends them.
///
/// # Errors
/// The address is taken, or AWS cannot be used.
pub(crate) async fn run(settings: Settings, tiers: Tiers, fix: bool) -> anyhow::Result<()> {
    let listener = if tiers.web { Some(listen(&settings)?) } else { None };
    let metrics = telemetry::install().context("metrics")?;
    let node = AwsNode::start(settings, tiers, fix).await?;
    let mut serving = None;
    if let Some((listener, client)) = listener.zip(node.client()) {
        let objects = node.objects.clone();
        let server = serve(listener, &node.settings, client.clone(), objects, node.fleet(), (None, metrics)).await?;
        let (cloud, cluster) = (node.cloud.clone(), node.settings.cloud.cluster.clone());
        let (resource, ready) = (node.settings.aws.stack_resource.clone(), node.ready.clone());
        let (checks, wanted) = (server.health_checks.clone(), node.settings.aws.health_checks);
        actix::spawn(async move {
            wait_until_ready(&client).await;
            checks.reached(wanted).await;
            ready.send_replace(true);
            let Some(resource) = resource else { return };
            if let Err(error) = cloud.signal_ready(&cluster, &resource).await {
                tracing::error!(error = format!("{error:#}"), "CloudFormation was not told that this node is ready");
            }
        });
        serving = Some(server);
    }
    actix::spawn(async move {
        wait_to_end().await;
        tracing::info!("shutting down; workers continue until they are idle");
        if let Some(serving) = serving {
            serving.stop().await;
        }
        node.stop().await;
        System::current().stop_with_code(0);
    });
    Ok(())
}

/// Returns how many threads workers will have, or `otherwise`, as many as this machine has cores.
async fn threads_of_workers(cloud: &AwsCloud, otherwise: usize) -> usize {
    match cloud.compute.cores().await {
        Ok(cores) => cores.unwrap_or(otherwise),
        Err(error) => {
            tracing::warn!(%error, otherwise, "the workers' number of cores is not known: set worker.threads");
            otherwise
        }
    }
}

/// Waits until queue and store can be reached.
async fn wait_until_ready(client: &JobClient) {
    while let Err(error) = client.ready().await {
        tracing::warn!(%error, "not ready yet");
        tokio::time::sleep(READY_CHECK).await;
    }
}

/// Connects the worker on this instance, and ends the process when AWS can no longer be reached.
pub(super) async fn worker_ports(settings: &Settings) -> anyhow::Result<WorkerPorts> {
    let cloud = AwsCloud::connect(settings, false).await?;
    let requests = cloud.queues.open(&settings.queue.listener).await.context("request queue")?;
    let status = cloud.queues.open(&settings.queue.status).await;
    let status = status
        .inspect_err(|error| tracing::warn!(%error, "no heartbeat can be sent: if this worker hangs, nobody notices"))
        .ok();
    let metadata = cloud.metadata(requests, status, settings.aws.heartbeat);
    actix::spawn({
        let metadata = metadata.clone();
        async move {
            metadata.lost().await;
            tracing::error!("AWS cannot be reached: exiting, so that the machine shuts down and is no longer billed");
            System::current().stop_with_code(EXIT_UNAVAILABLE);
        }
    });
    Ok(WorkerPorts { queues: cloud.queues, objects: cloud.objects, metadata })
}

/// Returns a name for this process, unique in the cluster and valid as part of a queue's name.
fn node_name() -> String {
    ulid::Ulid::generate().to_string().to_lowercase()
}

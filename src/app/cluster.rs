//! The runtime without HTTP: queues, the fleet and its workers, for jobs of any kind.

use std::{path::PathBuf, sync::Arc};

use actix::{Addr, System};
use tokio::sync::watch;

use super::{
    housekeeping,
    node::{ControllerPorts, DeadLetterPorts, SeesReplies, add_client, add_controller, add_dead_letter_consumer},
    queues,
};
use crate::{
    actors::{
        actor_ref::Sender,
        guardian::{Guardian, StandDown},
        instance_fleet::{Retire, terminate_all},
    },
    backup::Backups,
    client::JobClient,
    clock::now_ms,
    cloud::{Compute, ObjectStore, Queues, local::LocalCloud, metered::Metered},
    fleet::view::FleetView,
    fleet_history::Count,
    settings::{CloudKind, Settings},
};

/// A running cluster, from the point of view of the process that submits jobs: on the embedded cloud or, with the
/// feature `aws`, on SQS, S3 and EC2.
pub struct Cluster {
    client: JobClient,
    fleet: watch::Receiver<Arc<FleetView>>,
    kind: Kind,
}

enum Kind {
    Local(Box<LocalCluster>),
    #[cfg(feature = "aws")]
    Aws(Box<super::aws::AwsNode>),
}

impl Cluster {
    /// Starts the controller and the client's actors. No worker runs until there is a job. On one machine, workers are
    /// processes of this program (`PROGRAM worker --socket … --instance …`; see [`worker`](super::worker)). `config` is
    /// the settings file, which workers receive as `--config`.
    ///
    /// # Errors
    /// The data folder or AWS cannot be used; the message names a remedy.
    pub async fn start(settings: &Settings, config: Option<PathBuf>) -> anyhow::Result<Self> {
        match settings.cloud.kind {
            CloudKind::Local => {
                let cluster = LocalCluster::start(settings, config).await?;
                let (client, fleet) = (cluster.client.clone(), cluster.fleet.clone());
                Ok(Self { client, fleet, kind: Kind::Local(Box::new(cluster)) })
            }
            #[cfg(feature = "aws")]
            CloudKind::Aws => {
                let tiers = super::aws::Tiers { web: true, controller: true };
                let node = super::aws::AwsNode::start(settings.clone(), tiers, false).await?;
                let (client, fleet) = (node.client(), node.fleet());
                let client = client.ok_or_else(|| anyhow::anyhow!("a node with the web tier has a client"))?;
                Ok(Self { client, fleet, kind: Kind::Aws(Box::new(node)) })
            }
            #[cfg(not(feature = "aws"))]
            CloudKind::Aws => Err(queues::aws_not_built_in()),
        }
    }

    /// Returns the client that submits jobs.
    pub fn client(&self) -> &JobClient {
        &self.client
    }

    /// Returns a receiver of the fleet's view.
    pub fn fleet(&self) -> watch::Receiver<Arc<FleetView>> {
        self.fleet.clone()
    }

    /// Waits until there are no jobs and no instance is starting, running or stopping.
    pub async fn wait_until_idle(&self) {
        let since = now_ms(); // an older view may not show recently submitted jobs
        let idle = |view: &Arc<FleetView>| {
            let c = &view.counts;
            view.at_ms >= since && view.demand == 0 && view.intents + c.pending + c.running + c.stopping == 0
        };
        let _ = self.fleet.clone().wait_for(idle).await; // the sender lives as long as this cluster
    }

    /// Stops the controller and, on one machine, terminates the workers.
    pub async fn stop(self) {
        match self.kind {
            Kind::Local(cluster) => cluster.stop().await,
            #[cfg(feature = "aws")]
            Kind::Aws(node) => node.stop().await,
        }
    }
}

/// A cluster on the embedded cloud.
pub(super) struct LocalCluster {
    pub client: JobClient,
    pub fleet: watch::Receiver<Arc<FleetView>>,
    cloud: LocalCloud,
    objects: Arc<dyn ObjectStore>,
    guardian: Addr<Guardian>,
    retire: Sender<Retire>,
}

impl LocalCluster {
    pub async fn start(settings: &Settings, config: Option<PathBuf>) -> anyhow::Result<Self> {
        let cloud = LocalCloud::open(settings, config).await?;
        let all_queues: Arc<dyn Queues> = Arc::new(Metered::new(cloud.queues.clone()));
        let compute: Arc<dyn Compute> = Arc::new(Metered::new(cloud.compute.clone()));
        let objects: Arc<dyn ObjectStore> = Arc::new(Metered::new(cloud.objects.clone()));
        let queues = queues::create(settings, &*all_queues).await?;
        housekeeping::sweep_at_start(settings, &cloud).await;
        housekeeping::start(settings, &cloud);
        end_if_damaged(&cloud);
        let (view, fleet) = watch::channel(Arc::new(FleetView::default()));

        let mut guardian = Guardian::builder();
        let controller = guardian.actor_ref("instance fleet");
        let headroom = LocalCloud::headroom(settings, queues.requests.clone()).await;
        let client = add_client(&mut guardian, settings, &queues, objects.clone(), Some(&controller), headroom);
        let requests = queues.requests.clone();
        let ports = ControllerPorts { compute, requests, objects: objects.clone(), boots: None, view: Arc::new(view) };
        // The timestamp makes the launch tokens differ from those of earlier epochs.
        add_controller(&mut guardian, &controller, settings, ports, now_ms, SeesReplies::All);
        let history = client.history().clone();
        let dead_letters = DeadLetterPorts {
            queue: queues.dead_letters,
            queues: all_queues,
            reply_prefix: settings.queue.speaker.clone(),
            objects: objects.clone(),
            on_stored: Arc::new(move || history.count(Count::DeadLetter)), // `/metrics` counts them, too
        };
        add_dead_letter_consumer(&mut guardian, settings, dead_letters);
        let guardian = guardian.start()?;
        Ok(Self { client, fleet, cloud, objects, guardian, retire: controller.sender() })
    }

    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        self.objects.clone()
    }

    pub fn backups(&self, settings: &Settings) -> Backups {
        Backups::new(settings, self.cloud.broker())
    }

    pub async fn stop(self) {
        self.guardian.do_send(StandDown);
        if self.retire.ask(Retire { leads: true }).await.is_err() {
            tracing::warn!("the fleet actor had died before it was retired");
        }
        terminate_all(&*self.cloud.compute).await;
        self.cloud.close().await;
    }
}

/// Exit code of a process whose queue file turned out to be damaged (`EX_IOERR` of sysexits.h).
const EXIT_DAMAGED: i32 = 74;

/// Ends the process if the queues' file turns out to be damaged: no job can be accepted or done any more.
fn end_if_damaged(cloud: &LocalCloud) {
    let damaged = cloud.damaged();
    actix::spawn(async move {
        let remedy = damaged.await;
        tracing::error!("{remedy}");
        System::current().stop_with_code(EXIT_DAMAGED);
    });
}

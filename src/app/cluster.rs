//! The runtime without HTTP: queues, the fleet and its workers, for jobs of any kind.

use std::{path::PathBuf, sync::Arc, time::Duration};

use actix::{Addr, System};
use tokio::{sync::watch, time::Instant};

use super::{
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
    cloud::{CloudResult, Compute, ObjectStore, Queues, local::LocalCloud, metered::Metered},
    fleet::view::FleetView,
    fleet_history::Count,
    results::{
        ResultStore,
        expiry_clock::{ExpiryClock, Reading},
    },
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
    Local(LocalCluster),
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
                Ok(Self { client, fleet, kind: Kind::Local(cluster) })
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
        sweep_orphans(settings, &cloud).await;
        expire_results(settings, &cloud);
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

/// Deletes what an earlier process left when it was killed, before anything else uses the store.
async fn sweep_orphans(settings: &Settings, cloud: &LocalCloud) {
    let queues = [&settings.queue.listener, &settings.queue.dead_letter];
    // Each job is a group of its own.
    let queued = queues.into_iter().flat_map(|queue| cloud.groups(queue));
    let Ok(queued) = queued.map(|group| group.parse()).collect() else {
        tracing::info!("earlier dead letters do not tell their jobs, so images without a result are kept for now");
        return;
    };
    match ResultStore::new(cloud.objects.clone(), settings.store.clone()).sweep_orphans(&queued).await {
        Ok(0) => {}
        Ok(deleted) => {
            tracing::info!(deleted, "deleted objects of jobs that were lost in a crash before a result was promised")
        }
        Err(error) => tracing::warn!(%error, "failed to look for objects of jobs that were lost in a crash"),
    }
}

/// How often results are looked for that have expired.
const EXPIRY_EVERY: Duration = Duration::from_secs(3600);

/// Deletes results once they are older than `store.retention_days`, from now on until the process ends.
fn expire_results(settings: &Settings, cloud: &LocalCloud) {
    let Some(retention) = settings.store.retention else { return };
    let results = ResultStore::new(cloud.objects.clone(), settings.store.clone());
    let (started, mut clock) = (Instant::now(), ExpiryClock::default());
    actix::spawn(async move {
        loop {
            let reading = Reading { now_ms: now_ms(), uptime: started.elapsed() };
            match expire_at(&results, retention, &mut clock, reading).await {
                Ok(0) => {}
                Ok(expired) => tracing::info!(expired, "deleted results older than store.retention_days"),
                Err(error) => tracing::warn!(%error, "failed to delete expired results; trying again in an hour"),
            }
            tokio::time::sleep(EXPIRY_EVERY).await;
        }
    });
}

/// Deletes what has expired at the time of a reading of the system clock, if that counts. Returns how many results.
async fn expire_at(
    results: &ResultStore,
    retention: Duration,
    clock: &mut ExpiryClock,
    reading: Reading,
) -> CloudResult<usize> {
    if !clock.counts(reading, results.newest_ms().await?) {
        tracing::warn!("the system clock has jumped, or nothing was stored for a day: nothing expires for an hour");
        return Ok(0);
    }
    let before_ms = reading.now_ms.saturating_sub(retention.as_millis() as u64);
    results.expire(before_ms, reading.now_ms).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        cloud::Message,
        job::{JobId, Retention},
    };

    #[actix::test]
    async fn the_payload_of_a_queued_job_is_no_orphan() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut settings = crate::testing::settings();
        settings.local.data_dir = folder.path().to_owned();
        let cloud = LocalCloud::open(&settings, None).await.expect("opened");
        let queues = queues::create(&settings, &*cloud.queues).await.expect("created");
        let results = ResultStore::new(cloud.objects.clone(), settings.store.clone());
        results.store_pending(JobId(1), "a.txt".into()).await.expect("stored");
        for (id, queue) in [(2, Some(&queues.requests)), (3, Some(&queues.dead_letters)), (4, None)] {
            let payload = Bytes::from_static(b"large");
            results.store_payload(JobId(id), Retention::Keep, "a.txt", payload).await.expect("stored");
            if let Some(queue) = queue {
                let id = Some(JobId(id).to_string());
                let body = Bytes::from_static(b"x");
                let message = Message { body, group: id.clone(), dedup: id, ..Message::default() };
                queue.send_one(message).await.expect("sent");
            }
        }
        sweep_orphans(&settings, &cloud).await;
        let kept = cloud.objects.list(&settings.store.input, "").await.expect("listed");
        let kept: Vec<_> = kept.into_iter().map(|object| object.key).collect();
        assert_eq!(kept, [2, 3].map(|id| format!("{}/a.txt", JobId(id))));
    }
}

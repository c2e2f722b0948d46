//! The roles on AWS. Queues, objects and machines are AWS's, so the tiers share no memory: a web node knows its own
//! reply queue, the controller knows its fleet from EC2, and of several controllers the one with the lease acts.

mod fleet_view;
mod reply_queues;

use std::sync::Arc;

use actix::{Actor as _, System};
use anyhow::Context as _;
use tokio::sync::watch;

use reply_queues::ReplyQueues;

use super::{HearsReplies, Node, create_queues, finish_uploads, listen, wait_to_end};
use crate::{
    actors::{
        guardian::{Factory, Guardian, StandDown},
        instance_supervisor::EXIT_UNAVAILABLE,
        messages::Retire,
    },
    cloud::{
        Queues,
        aws::AwsCloud,
        lease::{Held, Lease},
    },
    fleet::view::FleetView,
    http,
    settings::Settings,
};

/// Key of the controller's lease, in the state bucket.
const LEASE_KEY: &str = "controller-lease";

/// What a process runs beside the actors that every role has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiers {
    pub web: bool,
    pub controller: bool,
}

/// Runs a web node, the controller, or both, until a signal. Workers go on: they are not this process's.
/// `fix`: put settings of queues right instead of refusing them.
pub async fn run(mut settings: Settings, tiers: Tiers, fix: bool) -> anyhow::Result<()> {
    let node_name = node_name();
    let listener = if tiers.web { Some(listen(&settings)?) } else { None };
    let cloud = Arc::new(AwsCloud::connect(&settings, fix).await?);
    let reply_queues = Arc::new(ReplyQueues::new(cloud.clone(), &settings, &node_name));
    if tiers.web {
        // A node without a controller is one of several.
        let (queue, held) = reply_queues.choose(tiers.controller).await.context("reply queue")?;
        settings.queue.speaker = queue.clone();
        let reply_queues = reply_queues.clone();
        actix::spawn(async move { reply_queues.keep(&queue, held).await });
    }
    let (requests, replies) = create_queues(&settings, &*cloud.queues).await?;

    let node = Node::default();
    let (shown, fleet) = watch::channel(Arc::new(FleetView::default()));
    let shown = Arc::new(shown);
    let mut web = None;
    if let Some(listener) = listener {
        let metrics = http::metrics::install().context("metrics")?;
        let guardian = Guardian::new(node.web_actors(&settings, replies)).start();
        let tier = node.web_tier(&settings, cloud.objects.clone(), requests.clone(), fleet.clone());
        let http::Serving { server, ending } = http::serve(tier, listener, metrics)?;
        web = Some((guardian, server.handle(), ending));
        actix::spawn(server);
        println!("rollcall is serving on http://{}/ (Ctrl-C ends it)", settings.http.listen);
    }
    let (end, ended) = watch::channel(false);
    let views = Views { cloud: cloud.clone(), settings: settings.clone(), shown: shown.clone(), fleet };
    let views = Arc::new(views);
    if !tiers.controller {
        let views = views.clone();
        actix::spawn(async move { views.follow().await });
    }
    let controller = tiers.controller.then(|| {
        let lease =
            Lease::new(cloud.objects.clone(), &settings.store.state, LEASE_KEY, &node_name, settings.fleet.lease);
        let (node, settings) = (node.clone(), settings.clone());
        let reply_queues = reply_queues.clone();
        actix::spawn(async move {
            let fleet = |epoch| {
                let compute = cloud.compute.clone();
                node.controller(
                    &settings,
                    compute,
                    requests.clone(),
                    shown.clone(),
                    move || epoch,
                    HearsReplies::OwnOnly,
                )
            };
            control(&lease, &node, fleet, &views, &reply_queues, ended).await;
        })
    });
    actix::spawn(async move {
        wait_to_end().await;
        tracing::info!("ending; workers go on until they are idle");
        if let Some((guardian, handle, ending)) = web {
            finish_uploads(handle, ending).await;
            guardian.do_send(StandDown);
            if let Err(error) = reply_queues.leave(&settings.queue.speaker).await {
                tracing::warn!(%error, "reply queue not left in good order");
            }
        }
        end.send_replace(true);
        if let Some(controller) = controller
            && controller.await.is_err()
        {
            tracing::warn!("the controller had died");
        }
        System::current().stop_with_code(0);
    });
    Ok(())
}

/// What this node shows of the fleet, and what it writes for others.
struct Views {
    cloud: Arc<AwsCloud>,
    settings: Settings,
    shown: Arc<watch::Sender<Arc<FleetView>>>,
    fleet: watch::Receiver<Arc<FleetView>>,
}

impl Views {
    async fn publish(&self) {
        let (bucket, every) = (&self.settings.store.state, self.settings.fleet.describe_every);
        fleet_view::publish(&*self.cloud.objects, bucket, self.fleet.clone(), every).await;
    }

    async fn follow(&self) {
        let (bucket, every) = (&self.settings.store.state, self.settings.fleet.describe_every);
        fleet_view::follow(&*self.cloud.objects, bucket, &self.shown, every).await;
    }
}

/// Acts as controller whenever the lease is held, until asked to end.
async fn control(
    lease: &Lease,
    node: &Node,
    fleet: impl Fn(u64) -> (&'static str, Factory),
    views: &Views,
    reply_queues: &ReplyQueues,
    mut ended: watch::Receiver<bool>,
) {
    loop {
        let mut held: Held = tokio::select! {
            held = lease.acquire() => held,
            () = views.follow() => return, // never
            _ = ended.wait_for(|ended| *ended) => return,
        };
        let guardian = Guardian::new([fleet(held.epoch())]).start();
        let lost = tokio::select! {
            () = held.lost() => true,
            () = reply_queues.collect() => true, // never
            () = views.publish() => true, // never
            _ = ended.wait_for(|ended| *ended) => false,
        };
        guardian.do_send(StandDown);
        if node.retire.ask(Retire).await.is_err() {
            tracing::warn!("the fleet was not there to be retired");
        }
        if !lost {
            held.release().await;
            return;
        }
        tracing::warn!("another controller may act: waiting for the lease");
    }
}

/// Runs one worker on the instance that this is, until idle, asked or interrupted.
pub async fn worker(settings: Settings) -> anyhow::Result<()> {
    let cloud = AwsCloud::connect(&settings, false).await?;
    let listener = cloud.queues.open(&settings.queue.listener).await.context("request queue")?;
    let metadata = cloud.metadata(listener);
    actix::spawn({
        let metadata = metadata.clone();
        async move {
            metadata.lost().await;
            tracing::error!("AWS cannot be reached: giving up, so that the machine is shut down and costs nothing");
            System::current().stop_with_code(EXIT_UNAVAILABLE);
        }
    });
    super::worker::run(settings, super::worker::Ports { queues: cloud.queues, objects: cloud.objects, metadata }).await
}

/// This process among those of the cluster, fit for a queue's name.
fn node_name() -> String {
    ulid::Ulid::generate().to_string().to_lowercase()
}

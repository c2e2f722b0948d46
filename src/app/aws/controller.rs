//! The controller on AWS, which acts while it holds the lease.

use std::sync::Arc;

use tokio::sync::watch;

use super::{fleet_view::Views, metrics::Metrics, reply_queues::ReplyQueues};
use crate::{
    actors::{
        actor_ref::ActorRef,
        guardian::{Guardian, StandDown},
        instance_fleet::{InstanceFleet, Retire},
        queue_poller::Drain,
    },
    app::node::{ControllerPorts, DeadLetterPorts, SeesReplies, add_controller, add_dead_letter_consumer},
    cloud::{
        Queue,
        aws::{AwsCloud, Ec2Compute, Heartbeats},
        lease::{Ending, Held, Lease},
    },
    settings::Settings,
};

/// Key of the controller's lease, in the state bucket.
const LEASE_KEY: &str = "controller-lease";

/// Creates the handle of the controller lease, for the process named `node_name`. Of controllers that launch different versions of
/// the workers' launch template, the latest one leads, as soon as its node is `ready`.
pub(super) fn lease(cloud: &AwsCloud, settings: &Settings, node_name: &str, ready: watch::Receiver<bool>) -> Lease {
    let lease = Lease::new(cloud.objects.clone(), &settings.store.state, LEASE_KEY, node_name, settings.fleet.lease);
    lease.with_rank(settings.aws.launch.template_version.unwrap_or(0), ready)
}

/// What a controller needs from its node.
pub(super) struct ControllerNode {
    pub settings: Settings,
    pub actor: ActorRef<InstanceFleet>,
    pub compute: Arc<Ec2Compute>,
    pub ports: ControllerPorts,
    pub dead_letters: DeadLetterPorts,
    pub views: Views,
    pub metrics: Metrics,
    pub reply_queues: Arc<ReplyQueues>,
    pub heartbeats: Arc<Heartbeats>,
    /// The queue of heartbeats.
    pub status: Arc<dyn Queue>,
}

impl ControllerNode {
    /// Acts as controller whenever the lease is held, until `ended` is `true`.
    pub async fn run(self, lease: Lease, mut ended: watch::Receiver<bool>) {
        loop {
            let mut held: Held = tokio::select! {
                held = lease.acquire() => held,
                () = self.views.follow() => return, // never returns
                _ = ended.wait_for(|ended| *ended) => return,
            };
            let epoch = held.epoch();
            self.compute.begin_to_lead();
            let mut guardian = Guardian::builder();
            let (ports, sees) = (self.ports.clone(), SeesReplies::OwnOnly);
            add_controller(&mut guardian, &self.actor, &self.settings, ports, move || epoch, sees);
            let drain = add_dead_letter_consumer(&mut guardian, &self.settings, self.dead_letters.clone());
            let Ok(guardian) = guardian.start() else { return }; // cannot fail: it has no reference without an actor
            let ending = tokio::select! {
                ending = held.ended() => Some(ending),
                () = self.reply_queues.collect() => None, // never returns
                () = self.views.publish() => None, // never returns
                () = self.metrics.publish() => None, // never returns
                () = self.heartbeats.listen(&*self.status) => None, // never returns
                _ = ended.wait_for(|ended| *ended) => None,
            };
            guardian.do_send(StandDown);
            drain.tell(Drain);
            let leads = ending != Some(Ending::Lost);
            if self.actor.sender().ask(Retire { leads }).await.is_err() {
                tracing::warn!("the fleet actor had died before it was retired");
            }
            match ending {
                None => {
                    held.release().await;
                    return;
                }
                Some(Ending::Claimed) => {
                    tracing::info!("a controller of a later version of the launch template leads from now on");
                    held.release().await;
                }
                Some(Ending::Lost) => tracing::warn!("the lease was lost: waiting to acquire it again"),
            }
        }
    }
}

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
        aws::{AwsCloud, Heartbeats},
        lease::{Held, Lease},
    },
    settings::Settings,
};

/// Key of the controller's lease, in the state bucket.
const LEASE_KEY: &str = "controller-lease";

/// Creates the handle of the controller lease, for the process named `node_name`.
pub(super) fn lease(cloud: &AwsCloud, settings: &Settings, node_name: &str) -> Lease {
    Lease::new(cloud.objects.clone(), &settings.store.state, LEASE_KEY, node_name, settings.fleet.lease)
}

/// What a controller needs from its node.
pub(super) struct ControllerNode {
    pub settings: Settings,
    pub actor: ActorRef<InstanceFleet>,
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
            let mut guardian = Guardian::builder();
            let (ports, sees) = (self.ports.clone(), SeesReplies::OwnOnly);
            add_controller(&mut guardian, &self.actor, &self.settings, ports, move || epoch, sees);
            let drain = add_dead_letter_consumer(&mut guardian, &self.settings, self.dead_letters.clone());
            let Ok(guardian) = guardian.start() else { return }; // cannot fail: it has no reference without an actor
            let lost = tokio::select! {
                () = held.lost() => true,
                () = self.reply_queues.collect() => true, // never returns
                () = self.views.publish() => true, // never returns
                () = self.metrics.publish() => true, // never returns
                () = self.heartbeats.listen(&*self.status) => true, // never returns
                _ = ended.wait_for(|ended| *ended) => false,
            };
            guardian.do_send(StandDown);
            drain.tell(Drain);
            if self.actor.sender().ask(Retire).await.is_err() {
                tracing::warn!("the fleet actor had died before it was retired");
            }
            if !lost {
                held.release().await;
                return;
            }
            tracing::warn!("the lease was lost: waiting to acquire it again");
        }
    }
}

//! The reply queues of web nodes: each node has its own, so that it does not receive the replies to another node's
//! jobs.
//!
//! A node holds a lease on its queue while it runs. The first node that also has a controller uses the configured
//! queue. All others create queues of their own, which the controller deletes when their leases have expired.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    cloud::{
        CloudError, CloudResult, ObjectStore, QueueSpec,
        aws::AwsCloud,
        lease::{Held, Lease},
    },
    settings::Settings,
};

/// Prefix of the keys of leases in the state bucket; the queue's name follows.
const PREFIX: &str = "web-nodes/";
/// What is between the names of the configured queue and of the node in that of the node's own queue. The name of a cluster cannot
/// contain it, so that no queue of a cluster whose name begins with this one's has such a name.
const SEPARATOR: char = '_';
/// How many times longer a node's lease lasts than a controller's: deleting its queue is not urgent.
const LEASE_FACTOR: u32 = 10;
/// Pause between attempts to get back a lease or a queue.
const RETRY: Duration = Duration::from_secs(5);

/// The reply queues of a cluster.
pub struct ReplyQueues {
    cloud: Arc<AwsCloud>,
    bucket: String,
    /// The configured queue.
    shared: String,
    /// Holder of the leases acquired here.
    node: String,
    time: Duration,
}

impl ReplyQueues {
    pub fn new(cloud: Arc<AwsCloud>, settings: &Settings, node: &str) -> Self {
        let (bucket, node) = (settings.store.state.clone(), node.to_owned());
        let shared = settings.queue.speaker.clone();
        Self { cloud, bucket, shared, node, time: settings.fleet.lease * LEASE_FACTOR }
    }

    fn lease(&self, queue: &str) -> Lease {
        Lease::new(self.cloud.objects.clone(), &self.bucket, &format!("{PREFIX}{queue}"), &self.node, self.time)
    }

    /// Returns the reply queue for this node: the configured queue if it is free and the node may use it, otherwise a
    /// new one.
    pub async fn choose(&self, may_share: bool) -> CloudResult<(String, Held)> {
        if may_share && let Some(held) = self.lease(&self.shared).take_if_free().await? {
            return Ok((self.shared.clone(), held));
        }
        let own = format!("{}{SEPARATOR}{}", self.shared, self.node);
        let held = self.lease(&own).acquire().await;
        Ok((own, held))
    }

    /// Keeps the queue of this node and its lease for as long as this future is polled.
    pub async fn keep(&self, queue: &QueueSpec, mut held: Held) {
        loop {
            held.ended().await;
            tracing::warn!(queue = queue.name, "the lease of the reply queue was not renewed in time");
            held = self.hold_again(queue, held).await;
        }
    }

    /// Waits until this node holds the lease again: after an outage of the store, nobody need have taken it. If a controller has,
    /// because it took this node for gone, it has deleted the queue, which is then created again.
    async fn hold_again(&self, queue: &QueueSpec, mut held: Held) -> Held {
        while let Err(error) = held.regain().await {
            if let CloudError::Conflict(_) = error {
                let held = self.lease(&queue.name).acquire().await;
                self.restore(queue).await;
                return held;
            }
            tokio::time::sleep(RETRY).await;
        }
        held
    }

    /// Creates the queue again, unless it is the configured one, which no controller deletes.
    async fn restore(&self, queue: &QueueSpec) {
        while queue.name != self.shared
            && let Err(error) = self.cloud.queues.restore(queue).await
        {
            tracing::warn!(%error, queue = queue.name, "the reply queue of this node was not created again yet");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Deletes a node's lease, and its queue unless that is the configured one.
    pub async fn leave(&self, queue: &str) -> CloudResult<()> {
        if queue != self.shared {
            self.cloud.queues.delete(queue).await?;
        }
        self.cloud.objects.delete(&self.bucket, &format!("{PREFIX}{queue}")).await
    }

    /// Deletes the queues of nodes that are gone, periodically and for as long as this future is polled.
    pub async fn collect(&self) {
        loop {
            match self.cloud.objects.list(&self.bucket, PREFIX).await {
                Ok(objects) => {
                    let queues = objects.iter().filter_map(|object| object.key.strip_prefix(PREFIX));
                    join_all(queues.map(|queue| self.delete_if_gone(queue))).await;
                }
                Err(error) => tracing::warn!(%error, "reply queues not listed"),
            }
            tokio::time::sleep(self.time).await;
        }
    }

    /// Deletes the queue of a node if the node is gone, which is the case once its lease can be acquired.
    async fn delete_if_gone(&self, queue: &str) {
        if tokio::time::timeout(2 * self.time, self.lease(queue).acquire()).await.is_err() {
            return;
        }
        match self.leave(queue).await {
            Ok(()) => tracing::info!(queue, "a web node is gone: its reply queue was deleted"),
            Err(error) => tracing::warn!(%error, queue, "the reply queue of a web node that is gone was not deleted"),
        }
    }
}

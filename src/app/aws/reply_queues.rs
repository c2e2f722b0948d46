//! The reply queues of web nodes. Each node makes its own and holds a lease beside it for as long as it lives; the
//! controller deletes queues whose lease has run out.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    cloud::{CloudResult, ObjectStore, aws::AwsCloud, lease::Lease},
    settings::Settings,
};

/// Keys of the leases in the state bucket: this, and the queue's name.
const PREFIX: &str = "web-nodes/";
/// A node is waited for this many times as long as a controller: nothing is urgent here.
const PATIENCE: u32 = 10;

/// The reply queues of a cluster.
pub struct ReplyQueues {
    cloud: Arc<AwsCloud>,
    bucket: String,
    /// Who holds leases here.
    node: String,
    time: Duration,
}

impl ReplyQueues {
    pub fn new(cloud: Arc<AwsCloud>, settings: &Settings, node: &str) -> Self {
        let (bucket, node) = (settings.store.state.clone(), node.to_owned());
        Self { cloud, bucket, node, time: settings.fleet.lease * PATIENCE }
    }

    fn lease(&self, queue: &str) -> Lease {
        Lease::new(self.cloud.objects.clone(), &self.bucket, &format!("{PREFIX}{queue}"), &self.node, self.time)
    }

    /// Says that the queue is in use, for as long as this is polled.
    pub async fn keep(&self, queue: &str) {
        let lease = self.lease(queue);
        loop {
            lease.acquire().await.lost().await;
        }
    }

    /// Deletes a queue and its lease.
    pub async fn delete(&self, queue: &str) -> CloudResult<()> {
        self.cloud.queues.delete(queue).await?;
        self.cloud.objects.delete(&self.bucket, &format!("{PREFIX}{queue}")).await
    }

    /// Deletes the queues of nodes that are gone, again and again, for as long as this is polled.
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

    /// Whoever can take a node's lease knows that the node is gone.
    async fn delete_if_gone(&self, queue: &str) {
        if tokio::time::timeout(2 * self.time, self.lease(queue).acquire()).await.is_err() {
            return;
        }
        match self.delete(queue).await {
            Ok(()) => tracing::info!(queue, "reply queue of a web node that is gone deleted"),
            Err(error) => tracing::warn!(%error, queue, "reply queue not deleted"),
        }
    }
}

//! The reply queues of web nodes, so that no node receives the replies to another's uploads. A node holds a lease beside
//! its queue for as long as it lives. The first that serves has the speaker itself, as in the report; others make queues
//! of their own, which the controller deletes when their lease has run out.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;

use crate::{
    cloud::{
        CloudResult, ObjectStore,
        aws::AwsCloud,
        lease::{Held, Lease},
    },
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
    /// The queue of whoever is alone.
    speaker: String,
    /// Who holds leases here.
    node: String,
    time: Duration,
}

impl ReplyQueues {
    pub fn new(cloud: Arc<AwsCloud>, settings: &Settings, node: &str) -> Self {
        let (bucket, node) = (settings.store.state.clone(), node.to_owned());
        let speaker = settings.queue.speaker.clone();
        Self { cloud, bucket, speaker, node, time: settings.fleet.lease * PATIENCE }
    }

    fn lease(&self, queue: &str) -> Lease {
        Lease::new(self.cloud.objects.clone(), &self.bucket, &format!("{PREFIX}{queue}"), &self.node, self.time)
    }

    /// The reply queue for this node: the speaker where that is free and the node may have it, otherwise one of its own.
    pub async fn choose(&self, may_have_speaker: bool) -> CloudResult<(String, Held)> {
        if may_have_speaker && let Some(held) = self.lease(&self.speaker).take_if_free().await? {
            return Ok((self.speaker.clone(), held));
        }
        let own = format!("{}-{}", self.speaker, self.node);
        let held = self.lease(&own).acquire().await;
        Ok((own, held))
    }

    /// Says that the queue is in use, for as long as this is polled.
    pub async fn keep(&self, queue: &str, mut held: Held) {
        loop {
            held.lost().await;
            tracing::warn!(queue, "the lease of the reply queue was lost");
            held = self.lease(queue).acquire().await;
        }
    }

    /// Deletes what a node leaves: its lease, and its queue if that is its own.
    pub async fn leave(&self, queue: &str) -> CloudResult<()> {
        if queue != self.speaker {
            self.cloud.queues.delete(queue).await?;
        }
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
        match self.leave(queue).await {
            Ok(()) => tracing::info!(queue, "a web node is gone: cleaned up after it"),
            Err(error) => tracing::warn!(%error, queue, "not cleaned up after a web node"),
        }
    }
}

//! The queues of a cluster, and how they are polled.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    cloud::{Polling, Queue, QueueSpec, Queues, polling::PollerOptions},
    settings::Settings,
};

/// Longest poll of an empty queue: the longest that is allowed.
const LONGEST_POLL: Duration = Duration::from_secs(20);

/// Returns the specs of a cluster's queues: dead letters, requests, replies. They must be created in this order.
pub(crate) fn specs(settings: &Settings) -> [QueueSpec; 3] {
    let q = &settings.queue;
    let dead_letters = QueueSpec {
        name: q.dead_letter.clone(),
        fifo: true,
        visibility: q.visibility,
        max_receives: u32::MAX,
        dead_letter: None,
        durable: true,
    };
    let requests = QueueSpec {
        name: q.listener.clone(),
        max_receives: q.max_receives,
        dead_letter: Some(q.dead_letter.clone()),
        ..dead_letters.clone()
    };
    let replies = QueueSpec { name: q.speaker.clone(), fifo: false, durable: false, ..dead_letters.clone() };
    [dead_letters, requests, replies]
}

/// Returns the spec of the queue of heartbeats, which there is on AWS only.
#[cfg(feature = "aws")]
pub(crate) fn status_spec(settings: &Settings) -> QueueSpec {
    let [_, _, replies] = specs(settings);
    QueueSpec { name: settings.queue.status.clone(), ..replies }
}

/// The queues between the tiers.
pub(super) struct ClusterQueues {
    pub dead_letters: Arc<dyn Queue>,
    pub requests: Arc<dyn Queue>,
    pub replies: Arc<dyn Queue>,
    pub polling: Polling,
}

/// Creates the queues of a cluster, or opens them if they exist.
pub(super) async fn create(settings: &Settings, queues: &dyn Queues) -> anyhow::Result<ClusterQueues> {
    let [dead_letters, requests, replies] = specs(settings);
    let dead_letters = queues.create(dead_letters).await.context("dead-letter queue")?;
    let requests = queues.create(requests).await.context("request queue")?;
    let replies = queues.create(replies).await.context("reply queue")?;
    Ok(ClusterQueues { dead_letters, requests, replies, polling: queues.polling() })
}

/// Returns the options of a poller of this cloud's queues.
pub(super) fn poller_options(settings: &Settings, polling: Polling) -> PollerOptions {
    PollerOptions {
        visibility: settings.queue.visibility,
        delete_linger: polling.delete_linger,
        poll_linger: polling.poll_linger,
        wait: LONGEST_POLL,
        max_receives: 1,
        finish_poll: polling.finish_poll,
    }
}

/// Returns the error for using AWS in a program that was built without the feature `aws`.
#[cfg(not(feature = "aws"))]
pub(crate) fn aws_not_built_in() -> anyhow::Error {
    anyhow::anyhow!("this program was built without AWS: build it with `cargo build --release --features aws`")
}

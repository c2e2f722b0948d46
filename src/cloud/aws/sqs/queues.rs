//! All queues of an account and region on SQS.
//!
//! FIFO queues are created for high throughput: deduplication and the throughput limit apply per message group, because
//! each job is a group of its own. SQS does not drop messages that are received too often: without a dead-letter queue,
//! a message is redelivered until it is four days old, SQS's default retention.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::{Client, types::QueueAttributeName};

use super::{
    super::{errors::classify, tags::CLUSTER_TAG},
    attributes::{Attributes, can_be_set, mismatches, redrive_policy, refusal},
    encoding::whole_seconds,
    queue::SqsQueue,
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{
    CloudError, CloudResult, Polling, QUEUE_RETENTION, Queue, QueueSpec, Queues, queue_limits::check_visibility,
};

/// Pause between polls of a queue that is nearly always empty: each poll is billed.
const RARE_PAUSE: Duration = Duration::from_secs(60);
/// Receives that a process may have under way from one queue. At 20 ms a call, these return up to 8,000 messages per second.
const MAX_RECEIVES: usize = 16;

/// Provides all queues of an account and region.
pub struct SqsQueues {
    client: Client,
    linger: Duration,
    tags: HashMap<String, String>,
    fix: bool,
}

impl SqsQueues {
    /// Creates the adapter. `linger` is the batching window of sends, deletes and extensions; queues created here are
    /// tagged with the name `cluster`.
    pub fn new(client: Client, linger: Duration, cluster: &str) -> Self {
        let tags = HashMap::from([(CLUSTER_TAG.to_owned(), cluster.to_owned())]);
        Self { client, linger, tags, fix: false }
    }

    /// Makes [`Queues::create`] correct the attributes of existing queues, where SQS can, instead of returning an
    /// error.
    pub fn correcting_attributes(self) -> Self {
        Self { fix: true, ..self }
    }

    async fn url(&self, name: &str) -> CloudResult<String> {
        let output = self.client.get_queue_url().queue_name(name).recorded().send().await;
        let url = output.map_err(|e| classify(&format!("queue {name}"), e))?.queue_url;
        url.ok_or_else(|| CloudError::Unavailable(format!("queue {name}: no URL in the response")))
    }

    async fn attributes(&self, name: &str, url: &str) -> CloudResult<Attributes> {
        let call = self.client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        Ok(call
            .recorded()
            .send()
            .await
            .map_err(|e| classify(&format!("queue {name}"), e))?
            .attributes
            .unwrap_or_default())
    }

    /// Returns the attributes that a queue of this spec must have.
    async fn wanted(&self, spec: &QueueSpec) -> CloudResult<Attributes> {
        check_visibility(spec.visibility)?;
        let mut wanted =
            HashMap::from([(QueueAttributeName::VisibilityTimeout, whole_seconds(spec.visibility).to_string())]);
        if spec.fifo {
            let fifo = [
                (QueueAttributeName::FifoQueue, "true"),
                (QueueAttributeName::DeduplicationScope, "messageGroup"),
                (QueueAttributeName::FifoThroughputLimit, "perMessageGroupId"),
            ];
            wanted.extend(fifo.map(|(name, value)| (name, value.to_owned())));
        }
        if spec.durable {
            wanted.insert(QueueAttributeName::MessageRetentionPeriod, QUEUE_RETENTION.as_secs().to_string());
        }
        if let Some(dead_letter) = &spec.dead_letter {
            let url = self.url(dead_letter).await.map_err(|error| match error {
                CloudError::NotFound(_) => {
                    CloudError::Invalid(format!("create the dead-letter queue {dead_letter} first"))
                }
                error => error,
            })?;
            let arn = self.attributes(dead_letter, &url).await?.remove(&QueueAttributeName::QueueArn);
            let arn =
                arn.ok_or_else(|| CloudError::Unavailable(format!("queue {dead_letter}: no ARN in the response")))?;
            wanted.insert(QueueAttributeName::RedrivePolicy, redrive_policy(&arn, spec.max_receives));
        }
        Ok(wanted)
    }

    /// Checks the attributes of an existing queue, or corrects them.
    async fn check(&self, spec: &QueueSpec, url: &str, wanted: Attributes) -> CloudResult<()> {
        let mismatches = mismatches(&wanted, &self.attributes(&spec.name, url).await?);
        if mismatches.is_empty() {
            return Ok(());
        }
        if !self.fix || !mismatches.iter().all(can_be_set) {
            return Err(refusal(&spec.name, &mismatches));
        }
        tracing::info!(queue = spec.name, attributes = ?mismatches, "correcting the queue's attributes");
        let attributes = mismatches.into_iter().map(|m| (m.name, m.wanted)).collect();
        let call = self.client.set_queue_attributes().queue_url(url).set_attributes(Some(attributes));
        call.recorded().send().await.map_err(|e| classify(&format!("queue {}", spec.name), e))?;
        Ok(())
    }

    /// Checks that the queue exists and has the attributes that the spec requires. Changes nothing.
    ///
    /// # Errors
    /// `NotFound` if it does not exist, `Invalid` if an attribute differs.
    pub async fn inspect(&self, spec: &QueueSpec) -> CloudResult<()> {
        let url = self.url(&spec.name).await?;
        let mismatches = mismatches(&self.wanted(spec).await?, &self.attributes(&spec.name, &url).await?);
        if mismatches.is_empty() { Ok(()) } else { Err(refusal(&spec.name, &mismatches)) }
    }

    /// Creates a queue that may have been deleted. `Ok` if it exists with the attributes that the spec requires.
    ///
    /// # Errors
    /// Any error of SQS: for a minute after its deletion, a queue cannot be created.
    pub async fn restore(&self, spec: &QueueSpec) -> CloudResult<()> {
        let wanted = self.wanted(spec).await?;
        self.make(&spec.name, wanted).await.map(drop)
    }

    /// Creates a queue, or finds it if it exists with equal attributes, and returns its URL.
    async fn make(&self, name: &str, wanted: Attributes) -> CloudResult<String> {
        let call = self.client.create_queue().queue_name(name).set_attributes(Some(wanted));
        let made = call.set_tags(Some(self.tags.clone())).recorded().send().await;
        let url = made.map_err(|e| classify(&format!("queue {name}"), e))?.queue_url;
        url.ok_or_else(|| CloudError::Unavailable(format!("queue {name}: no URL in the response")))
    }

    /// Deletes a queue and its messages. `Ok` if it does not exist.
    pub async fn delete(&self, name: &str) -> CloudResult<()> {
        let deleted = async {
            let url = self.url(name).await?;
            let call = self.client.delete_queue().queue_url(url);
            call.recorded().send().await.map(drop).map_err(|e| classify(&format!("queue {name}"), e))
        };
        match deleted.await {
            Err(CloudError::NotFound(_)) => Ok(()),
            result => result,
        }
    }

    fn queue(&self, name: &str, url: String) -> Arc<dyn Queue> {
        Arc::new(SqsQueue::new(self.client.clone(), name, url, self.linger))
    }
}

#[async_trait]
impl Queues for SqsQueues {
    fn polling(&self) -> Polling {
        Polling {
            delete_linger: Duration::ZERO, // the queue itself batches calls
            poll_linger: self.linger,
            rare_pause: RARE_PAUSE,
            max_prefetch_delay: self.linger,
            finish_poll: true,
            max_receives: MAX_RECEIVES,
        }
    }

    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        let wanted = self.wanted(&spec).await?;
        let url = match self.url(&spec.name).await {
            Ok(url) => {
                self.check(&spec, &url, wanted).await?;
                url
            }
            // Another node may create it in the meantime: SQS accepts equal attributes and rejects others.
            Err(CloudError::NotFound(_)) => self.make(&spec.name, wanted).await?,
            Err(error) => return Err(error),
        };
        Ok(self.queue(&spec.name, url))
    }

    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        Ok(self.queue(name, self.url(name).await?))
    }
}

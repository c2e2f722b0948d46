//! Queues on SQS. Sends, deletes and extensions of concurrent callers share calls.
//!
//! FIFO queues are made for high throughput: deduplication and quota a message group, because each job is a group of its
//! own. SQS drops no message for having been received too often: without a dead-letter queue it stays until it is four
//! days old (the default of SQS).

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::{Client, types::QueueAttributeName};

use super::{
    errors::classify,
    sqs_queue::{SqsQueue, whole_seconds},
};
use crate::cloud::{CloudError, CloudResult, Polling, Queue, QueueSpec, Queues, queue_limits::check_visibility};

/// All queues of an account and region.
pub struct SqsQueues {
    client: Client,
    linger: Duration,
    tags: HashMap<String, String>,
    fix: bool,
}

impl SqsQueues {
    /// `linger`: how long an entry waits for others to share its call. `cluster`: tag of the queues made here.
    pub fn new(client: Client, linger: Duration, cluster: &str) -> Self {
        let tags = HashMap::from([(super::CLUSTER_TAG.to_owned(), cluster.to_owned())]);
        Self { client, linger, tags, fix: false }
    }

    /// Changes the settings of queues that exist to what they should be, where SQS can, instead of refusing them.
    pub fn fixing(self) -> Self {
        Self { fix: true, ..self }
    }

    async fn url(&self, name: &str) -> CloudResult<String> {
        let answer = self.client.get_queue_url().queue_name(name).send().await;
        let url = answer.map_err(|e| classify(&format!("queue {name}"), e))?.queue_url;
        url.ok_or_else(|| CloudError::Unavailable(format!("queue {name}: no URL in the answer")))
    }

    async fn attributes(&self, name: &str, url: &str) -> CloudResult<Attributes> {
        let call = self.client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        Ok(call.send().await.map_err(|e| classify(&format!("queue {name}"), e))?.attributes.unwrap_or_default())
    }

    /// The attributes that a queue of this spec has to have.
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
        if let Some(dead_letter) = &spec.dead_letter {
            let url = self.url(dead_letter).await.map_err(|error| match error {
                CloudError::NotFound(_) => {
                    CloudError::Invalid(format!("make the dead-letter queue {dead_letter} first"))
                }
                error => error,
            })?;
            let arn = self.attributes(dead_letter, &url).await?.remove(&QueueAttributeName::QueueArn);
            let arn =
                arn.ok_or_else(|| CloudError::Unavailable(format!("queue {dead_letter}: no ARN in the answer")))?;
            wanted.insert(QueueAttributeName::RedrivePolicy, redrive(&arn, spec.max_receives));
        }
        Ok(wanted)
    }

    /// Refuses a queue whose settings would break what the spec promises, or puts them right.
    async fn check(&self, spec: &QueueSpec, url: &str, wanted: Attributes) -> CloudResult<()> {
        let wrong = wrong(&wanted, &self.attributes(&spec.name, url).await?);
        if wrong.is_empty() {
            return Ok(());
        }
        if !self.fix || wrong.iter().any(|w| w.name == QueueAttributeName::FifoQueue) {
            return Err(refusal(&spec.name, &wrong));
        }
        tracing::info!(queue = spec.name, settings = ?wrong, "putting the queue's settings right");
        let wrong = wrong.into_iter().map(|w| (w.name, w.wanted)).collect();
        let call = self.client.set_queue_attributes().queue_url(url).set_attributes(Some(wrong));
        call.send().await.map_err(|e| classify(&format!("queue {}", spec.name), e))?;
        Ok(())
    }

    /// Whether the queue is there with the settings that the spec asks for; changes nothing.
    pub async fn inspect(&self, spec: &QueueSpec) -> CloudResult<()> {
        let url = self.url(&spec.name).await?;
        let wrong = wrong(&self.wanted(spec).await?, &self.attributes(&spec.name, &url).await?);
        if wrong.is_empty() { Ok(()) } else { Err(refusal(&spec.name, &wrong)) }
    }

    /// Deletes a queue and what is in it. `Ok` if there is none.
    pub async fn delete(&self, name: &str) -> CloudResult<()> {
        let deleted = async {
            let url = self.url(name).await?;
            let call = self.client.delete_queue().queue_url(url);
            call.send().await.map(drop).map_err(|e| classify(&format!("queue {name}"), e))
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
            delete_linger: Duration::ZERO, // calls are batched in the queue itself
            poll_linger: self.linger,
            max_prefetch_delay: self.linger,
            finish_poll: true,
        }
    }

    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        let wanted = self.wanted(&spec).await?;
        let url = match self.url(&spec.name).await {
            Ok(url) => {
                self.check(&spec, &url, wanted).await?;
                url
            }
            Err(CloudError::NotFound(_)) => {
                let call = self.client.create_queue().queue_name(&spec.name).set_attributes(Some(wanted));
                let made = call.set_tags(Some(self.tags.clone())).send().await;
                // Somebody else may have made it meanwhile: SQS accepts equal settings and refuses others.
                let url = made.map_err(|e| classify(&format!("queue {}", spec.name), e))?.queue_url;
                url.ok_or_else(|| CloudError::Unavailable(format!("queue {}: no URL in the answer", spec.name)))?
            }
            Err(error) => return Err(error),
        };
        Ok(self.queue(&spec.name, url))
    }

    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        Ok(self.queue(name, self.url(name).await?))
    }
}

type Attributes = HashMap<QueueAttributeName, String>;

/// A setting that is not as it should be.
#[derive(Debug)]
struct Wrong {
    name: QueueAttributeName,
    wanted: String,
    present: Option<String>,
}

fn wrong(wanted: &Attributes, present: &Attributes) -> Vec<Wrong> {
    let wrong = wanted.iter().filter(|(name, value)| !same(name, present.get(name), value));
    let wrong = wrong.map(|(name, value)| (name.clone(), value.clone(), present.get(name).cloned()));
    wrong.map(|(name, wanted, present)| Wrong { name, wanted, present }).collect()
}

fn refusal(queue: &str, wrong: &[Wrong]) -> CloudError {
    if wrong.iter().any(|w| w.name == QueueAttributeName::FifoQueue) {
        return CloudError::Invalid(format!(
            "queue {queue} is a standard queue and has to be FIFO: delete it, or name another"
        ));
    }
    let one = |w: &Wrong| format!("{} is {}, not {}", w.name, w.present.as_deref().unwrap_or("unset"), w.wanted);
    let mut list: Vec<String> = wrong.iter().map(one).collect();
    list.sort();
    CloudError::Invalid(format!(
        "queue {queue} exists with other settings ({}): change the queue, the configuration, or start with --fix",
        list.join("; ")
    ))
}

fn redrive(arn: &str, max_receives: u32) -> String {
    serde_json::json!({ "deadLetterTargetArn": arn, "maxReceiveCount": max_receives.to_string() }).to_string()
}

/// Whether a present attribute is as wanted. Redrive policies are JSON whose form may differ.
fn same(name: &QueueAttributeName, present: Option<&String>, wanted: &str) -> bool {
    let Some(present) = present else { return false };
    if *name != QueueAttributeName::RedrivePolicy {
        return present == wanted;
    }
    let parts = |text: &str| {
        let policy: serde_json::Value = serde_json::from_str(text).ok()?;
        let receives = &policy["maxReceiveCount"];
        let receives = receives.as_u64().or_else(|| receives.as_str()?.parse().ok())?;
        Some((policy["deadLetterTargetArn"].as_str()?.to_owned(), receives))
    };
    parts(present).is_some_and(|present| Some(present) == parts(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redrive_policies_are_compared_by_what_they_say() {
        let (name, wanted) = (QueueAttributeName::RedrivePolicy, redrive("arn:aws:sqs:x:1:dead", 5));
        let number = r#"{"maxReceiveCount": 5, "deadLetterTargetArn": "arn:aws:sqs:x:1:dead"}"#.to_owned();
        assert!(same(&name, Some(&number), &wanted));
        assert!(!same(&name, Some(&number.replace('5', "6")), &wanted));
        assert!(!same(&name, Some(&number.replace("dead", "other")), &wanted));
        assert!(!same(&name, None, &wanted));
    }
}

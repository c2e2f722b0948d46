//! Queues on SQS. Sends, deletes and extensions of concurrent callers share calls.
//!
//! FIFO queues are made for high throughput: deduplication and quota a message group, because each job is a group of its
//! own. SQS drops no message for having been received too often: without a dead-letter queue it stays until it is four
//! days old (the default of SQS).

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
    },
};

use super::{
    batcher::{Batcher, Call, Limits},
    errors::{classify, classify_code},
};
use crate::cloud::{CloudError, CloudResult, Delivery, Depth, Message, Queue, QueueSpec, Queues, Receipt};

/// Entries in one batch call.
const MAX_ENTRIES: usize = 10;
/// Bytes of one message, and of one call together.
const MAX_BYTES: usize = 1 << 20;
/// Longest long poll.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Longest delay of one message.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// Longest visibility timeout.
const MAX_VISIBILITY: Duration = Duration::from_secs(12 * 3600);

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

/// SQS counts in seconds: no shorter than asked.
fn whole_seconds(duration: Duration) -> i32 {
    duration.as_millis().div_ceil(1000) as i32
}

fn check_visibility(visibility: Duration) -> CloudResult<()> {
    if visibility > MAX_VISIBILITY {
        return Err(CloudError::Invalid("a message can be hidden for at most 12 hours".into()));
    }
    Ok(())
}

struct SqsQueue {
    client: Client,
    name: Arc<str>,
    url: String,
    fifo: bool,
    sends: Batcher<Message>,
    deletes: Batcher<Receipt>,
    extensions: Batcher<(Receipt, Duration)>,
    /// A call of its own, for messages whose order matters.
    send_now: Call<Message>,
}

impl SqsQueue {
    fn new(client: Client, name: &str, url: String, linger: Duration) -> Self {
        let name: Arc<str> = name.into();
        let limits = Limits { entries: MAX_ENTRIES, weight: MAX_BYTES, linger };
        let calls = Calls { client: client.clone(), name: name.clone(), url: url.clone() };
        let send_now: Call<Message> = calls.clone().call(async |calls: Calls, batch| calls.send(batch).await);
        let delete: Call<Receipt> = calls.clone().call(async |calls: Calls, batch| calls.delete(batch).await);
        let extend = calls.call(async |calls: Calls, batch| calls.extend(batch).await);
        Self {
            fifo: name.ends_with(".fifo"),
            sends: Batcher::new(limits, |message| message.body.len(), send_now.clone()),
            deletes: Batcher::new(limits, |_| 0, delete),
            extensions: Batcher::new(limits, |_| 0, extend),
            client,
            name,
            url,
            send_now,
        }
    }

    fn check(&self, message: &Message) -> CloudResult<()> {
        let size = message.body.len();
        if size > MAX_BYTES {
            return Err(CloudError::Invalid(format!("a message of {size} bytes; the limit is {MAX_BYTES}")));
        }
        if self.fifo != message.group.is_some() {
            let rule = if self.fifo { "needs" } else { "takes no" };
            return Err(CloudError::Invalid(format!("queue {} {rule} message group", self.name)));
        }
        if message.delay > MAX_DELAY || (self.fifo && !message.delay.is_zero()) {
            return Err(CloudError::Invalid(
                "a delay is at most 15 minutes, and not for one message of a FIFO queue".into(),
            ));
        }
        Ok(())
    }

    /// Sends in as few calls as the limits allow, one after the other.
    async fn send_in_order(&self, messages: Vec<Message>) -> Vec<CloudResult<()>> {
        let mut results = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < MAX_ENTRIES
                && let Some(message) = messages.next_if(|m| batch.is_empty() || bytes + m.body.len() <= MAX_BYTES)
            {
                bytes += message.body.len();
                batch.push(message);
            }
            results.extend((self.send_now)(batch).await);
        }
        results
    }
}

/// Whether two messages are of one group, so that their order matters.
fn share_a_group(messages: &[Message]) -> bool {
    let mut seen = HashSet::new();
    messages.iter().any(|m| m.group.is_some() && !seen.insert(&m.group))
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let checks: Vec<CloudResult<()>> = batch.iter().map(|message| self.check(message)).collect();
        let good: Vec<Message> =
            batch.into_iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(message, _)| message).collect();
        let sent = if share_a_group(&good) { self.send_in_order(good).await } else { self.sends.submit(good).await };
        let mut sent = sent.into_iter();
        let result =
            |check: CloudResult<()>| check.and_then(|()| sent.next().unwrap_or_else(|| Err(no_answer(&self.name))));
        checks.into_iter().map(result).collect()
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        if !(1..=MAX_ENTRIES).contains(&max) || wait > MAX_WAIT {
            return Err(CloudError::Invalid(format!(
                "a receive takes 1 to {MAX_ENTRIES} messages and waits at most {} s",
                MAX_WAIT.as_secs()
            )));
        }
        let call = self.client.receive_message().queue_url(&self.url);
        let call = call.max_number_of_messages(max as i32).wait_time_seconds(whole_seconds(wait));
        let call = call.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let answer = call.send().await.map_err(|e| classify(&format!("queue {}", self.name), e))?;
        Ok(answer.messages.unwrap_or_default().into_iter().map(delivery).collect())
    }

    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        self.deletes.submit(batch).await
    }

    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        if let Some(error) = batch.iter().find_map(|(_, visibility)| check_visibility(*visibility).err()) {
            return vec![Err(error); batch.len()];
        }
        self.extensions.submit(batch).await
    }

    async fn depth(&self) -> CloudResult<Depth> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let call = self.client.get_queue_attributes().queue_url(&self.url);
        let call = call.set_attribute_names(Some(vec![Visible, InFlight, Delayed]));
        let answer = call.send().await.map_err(|e| classify(&format!("queue {}", self.name), e))?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = |name| {
            let count = attributes.get(&name).and_then(|n| n.parse().ok());
            count.ok_or_else(|| CloudError::Unavailable(format!("queue {}: no {name} in the answer", self.name)))
        };
        Ok(Depth { visible: count(Visible)?, in_flight: count(InFlight)?, delayed: count(Delayed)? })
    }
}

fn delivery(message: aws_sdk_sqs::types::Message) -> Delivery {
    let attributes = message.attributes.unwrap_or_default();
    let receives = attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount).and_then(|n| n.parse().ok());
    Delivery {
        body: message.body.unwrap_or_default(),
        receipt: Receipt(message.receipt_handle.unwrap_or_default()),
        receives: receives.unwrap_or(1),
    }
}

/// The batch calls of one queue.
#[derive(Clone)]
struct Calls {
    client: Client,
    name: Arc<str>,
    url: String,
}

impl Calls {
    fn call<T, F, R>(self, make: F) -> Call<T>
    where
        T: Send + 'static,
        F: Fn(Self, Vec<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<CloudResult<()>>> + Send + 'static,
    {
        Arc::new(move |batch| Box::pin(make(self.clone(), batch)))
    }

    async fn send(self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        let entry = |(at, message): (usize, Message)| {
            SendMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .message_body(message.body)
                .set_message_group_id(message.group)
                .set_message_deduplication_id(message.dedup)
                .set_delay_seconds(Some(whole_seconds(message.delay)).filter(|s| *s > 0))
                .build()
        };
        let answer = match entries(batch, entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
                call.send().await.map_err(|e| self.classify(e))
            }
        };
        let ids = |ok: Vec<aws_sdk_sqs::types::SendMessageBatchResultEntry>| ok.into_iter().map(|e| e.id).collect();
        self.results(n, answer.map(|a| (ids(a.successful), a.failed)))
    }

    async fn delete(self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        let entry = |(at, receipt): (usize, Receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt.0).build()
        };
        let answer = match entries(batch, entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
                call.send().await.map_err(|e| self.classify(e))
            }
        };
        self.results(n, answer.map(|a| (a.successful.into_iter().map(|e| e.id).collect(), a.failed)))
    }

    async fn extend(self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        let entry = |(at, (receipt, visibility)): (usize, (Receipt, Duration))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(receipt.0)
                .visibility_timeout(whole_seconds(visibility))
                .build()
        };
        let answer = match entries(batch, entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call =
                    self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
                call.send().await.map_err(|e| self.classify(e))
            }
        };
        self.results(n, answer.map(|a| (a.successful.into_iter().map(|e| e.id).collect(), a.failed)))
    }

    fn classify<E>(&self, error: aws_sdk_sqs::error::SdkError<E>) -> CloudError
    where
        E: aws_sdk_sqs::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        classify(&format!("queue {}", self.name), error)
    }

    /// One result an entry. Ids are positions in the batch.
    fn results(
        &self,
        n: usize,
        answer: CloudResult<(Vec<String>, Vec<BatchResultErrorEntry>)>,
    ) -> Vec<CloudResult<()>> {
        let (successful, failed) = match answer {
            Ok(answer) => answer,
            Err(error) => return vec![Err(error); n],
        };
        let mut results = vec![Err(no_answer(&self.name)); n];
        let mut set = |id: &str, result| {
            if let Some(slot) = id.parse().ok().and_then(|at: usize| results.get_mut(at)) {
                *slot = result;
            }
        };
        successful.iter().for_each(|id| set(id, Ok(())));
        for entry in failed {
            // An entry has no status: whose fault it is stands for it.
            let status = if entry.sender_fault { 400 } else { 500 };
            let message = entry.message.unwrap_or_default();
            set(&entry.id, Err(classify_code(&format!("queue {}", self.name), &entry.code, &message, status)));
        }
        results
    }
}

fn no_answer(queue: &str) -> CloudError {
    CloudError::Unavailable(format!("queue {queue}: no result for this entry in the answer"))
}

fn entries<T, E>(batch: Vec<T>, entry: impl Fn((usize, T)) -> Result<E, BuildError>) -> CloudResult<Vec<E>> {
    let built: Result<Vec<E>, BuildError> = batch.into_iter().enumerate().map(entry).collect();
    built.map_err(|e| CloudError::Invalid(e.to_string()))
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

    #[test]
    fn seconds_are_never_fewer_than_asked() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(2_001)), 3);
    }

    #[test]
    fn order_matters_only_within_a_group() {
        let message = |group: Option<&str>| Message { group: group.map(str::to_owned), ..Message::default() };
        assert!(!share_a_group(&[message(None), message(None)]));
        assert!(!share_a_group(&[message(Some("a")), message(Some("b"))]));
        assert!(share_a_group(&[message(Some("a")), message(Some("b")), message(Some("a"))]));
    }
}

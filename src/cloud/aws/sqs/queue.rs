//! One queue on SQS. Sends, deletes and extensions of concurrent callers share calls.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    types::{MessageSystemAttributeName, QueueAttributeName},
};

use super::{
    super::errors::classify,
    batch_calls::{BatchCalls, no_result},
    batcher::{Batcher, Call, Limits},
    encoding::{decode, encoded_len, whole_seconds},
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{
    CloudError, CloudResult, Delivery, Depth, MAX_BATCH, Message, Queue, Receipt,
    queue_limits::{check_message, check_receive, check_visibility},
};

/// Bytes of all encoded bodies in one call.
const MAX_CALL_BYTES: usize = 1 << 20;

/// One queue.
pub(super) struct SqsQueue {
    client: Client,
    name: Arc<str>,
    url: String,
    fifo: bool,
    sends: Batcher<Message>,
    deletes: Batcher<Receipt>,
    extensions: Batcher<(Receipt, Duration)>,
    /// Sends a batch without the batcher, for messages whose order matters.
    send_batch: Call<Message>,
}

impl SqsQueue {
    /// Creates the handle of an existing queue; must be called within a Tokio runtime. `linger` is the batching window.
    pub(super) fn new(client: Client, name: &str, url: String, linger: Duration) -> Self {
        let name: Arc<str> = name.into();
        let limits = Limits { entries: MAX_BATCH, weight: MAX_CALL_BYTES, linger };
        let calls = BatchCalls { client: client.clone(), name: name.clone(), url: url.clone() };
        let send_batch: Call<Message> = calls.clone().call(async |calls: BatchCalls, batch| calls.send(batch).await);
        let delete: Call<Receipt> = calls.clone().call(async |calls: BatchCalls, batch| calls.delete(batch).await);
        let extend = calls.call(async |calls: BatchCalls, batch| calls.extend(batch).await);
        Self {
            fifo: name.ends_with(".fifo"),
            sends: Batcher::new(limits, encoded_len, send_batch.clone()),
            deletes: Batcher::new(limits, |_| 0, delete),
            extensions: Batcher::new(limits, |_| 0, extend),
            client,
            name,
            url,
            send_batch,
        }
    }

    /// Sends in as few calls as the limits allow, one after the other.
    async fn send_in_order(&self, messages: Vec<Message>) -> Vec<CloudResult<()>> {
        let mut results = Vec::with_capacity(messages.len());
        for batch in batches(messages) {
            results.extend((self.send_batch)(batch).await);
        }
        results
    }
}

/// Splits messages, in order, into the batches of single calls.
fn batches(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let mut batches: Vec<Vec<Message>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let len = encoded_len(&message);
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH && bytes + len <= MAX_CALL_BYTES => {
                bytes += len;
                batch.push(message);
            }
            _ => {
                bytes = len;
                batches.push(vec![message]);
            }
        }
    }
    batches
}

/// Returns whether two messages belong to the same group, so that their order matters.
fn share_a_group(messages: &[Message]) -> bool {
    let mut seen = HashSet::new();
    messages.iter().any(|m| m.group.is_some() && !seen.insert(&m.group))
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let checks: Vec<CloudResult<()>> = batch.iter().map(|m| check_message(&self.name, self.fifo, m)).collect();
        let valid: Vec<Message> =
            batch.into_iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(message, _)| message).collect();
        let sent = if share_a_group(&valid) { self.send_in_order(valid).await } else { self.sends.submit(valid).await };
        let mut sent = sent.into_iter();
        let result =
            |check: CloudResult<()>| check.and_then(|()| sent.next().unwrap_or_else(|| Err(no_result(&self.name))));
        checks.into_iter().map(result).collect()
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        check_receive(max, wait)?;
        let call = self.client.receive_message().queue_url(&self.url);
        let call = call.max_number_of_messages(max as i32).wait_time_seconds(whole_seconds(wait));
        let call = call.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let call = call.message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
        let output = call.recorded().send().await.map_err(|e| classify(&format!("queue {}", self.name), e))?;
        Ok(output.messages.unwrap_or_default().into_iter().map(decode).collect())
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
        let output = call.recorded().send().await.map_err(|e| classify(&format!("queue {}", self.name), e))?;
        let attributes = output.attributes.unwrap_or_default();
        let count = |name| {
            let count = attributes.get(&name).and_then(|n| n.parse().ok());
            count.ok_or_else(|| CloudError::Unavailable(format!("queue {}: no {name} in the response", self.name)))
        };
        Ok(Depth { visible: count(Visible)?, in_flight: count(InFlight)?, delayed: count(Delayed)? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn order_matters_only_within_a_group() {
        let message = |group: Option<&str>| Message { group: group.map(str::to_owned), ..Message::default() };
        assert!(!share_a_group(&[message(None), message(None)]));
        assert!(!share_a_group(&[message(Some("a")), message(Some("b"))]));
        assert!(share_a_group(&[message(Some("a")), message(Some("b")), message(Some("a"))]));
    }

    /// The sizes of calls.
    type Sizes = Arc<Mutex<Vec<usize>>>;

    /// Returns a queue that makes no calls, but records those through the batcher and those that bypass it.
    fn recorded() -> (SqsQueue, [Sizes; 2]) {
        let config = aws_sdk_sqs::Config::builder().behavior_version(aws_config::BehaviorVersion::latest());
        let client = Client::from_conf(config.build());
        let mut queue = SqsQueue::new(client, "jobs.fifo", String::new(), Duration::ZERO);
        let sizes: [Sizes; 2] = Default::default();
        let record = |sizes: &Sizes| -> Call<Message> {
            let sizes = sizes.clone();
            Arc::new(move |batch| {
                sizes.lock().unwrap().push(batch.len());
                Box::pin(async move { vec![Ok(()); batch.len()] })
            })
        };
        let limits = Limits { entries: MAX_BATCH, weight: MAX_CALL_BYTES, linger: Duration::ZERO };
        queue.sends = Batcher::new(limits, encoded_len, record(&sizes[0]));
        queue.send_batch = record(&sizes[1]);
        (queue, sizes)
    }

    fn in_group(group: impl ToString) -> Message {
        Message { group: Some(group.to_string()), ..Message::default() }
    }

    #[tokio::test]
    async fn messages_of_one_group_bypass_the_batcher() {
        let (queue, [batched, in_order]) = recorded();
        assert_eq!(queue.send((0..12).map(in_group).collect()).await, vec![Ok(()); 12]);
        assert_eq!(batched.lock().unwrap().iter().sum::<usize>(), 12);
        assert_eq!(queue.send((0..12).map(|_| in_group("a")).collect()).await, vec![Ok(()); 12]);
        assert_eq!(*in_order.lock().unwrap(), [10, 2]);
    }

    #[tokio::test]
    async fn invalid_messages_are_not_sent_and_do_not_shift_results() {
        let (queue, [batched, _]) = recorded();
        let results = queue.send(vec![in_group("a"), Message::default(), in_group("b")]).await;
        assert!(matches!(results[..], [Ok(()), Err(CloudError::Invalid(_)), Ok(())]), "{results:?}");
        assert_eq!(batched.lock().unwrap().iter().sum::<usize>(), 2);
    }

    #[test]
    fn batches_preserve_order_and_respect_the_limits_of_a_call() {
        let message = |bytes: usize| Message { body: vec![0; bytes].into(), ..Message::default() };
        let sizes = |lengths: &[usize]| -> Vec<Vec<usize>> {
            let batches = batches(lengths.iter().map(|n| message(*n)).collect());
            batches.iter().map(|batch| batch.iter().map(|m| m.body.len()).collect()).collect()
        };
        assert_eq!(sizes(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(sizes(&[1; 21]).iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 1]);
        // Base64 encodes three bytes as four.
        let half = MAX_CALL_BYTES / 8 * 3;
        assert_eq!(sizes(&[half, half, 1, half]), [vec![half, half], vec![1, half]]);
        assert_eq!(sizes(&[half, half + 1, 2]), [vec![half], vec![half + 1, 2]]);
    }
}

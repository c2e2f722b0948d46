//! One queue on SQS. Sends, deletes and extensions of concurrent callers share calls.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::{
    Client,
    types::{MessageSystemAttributeName, QueueAttributeName},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    batcher::{Batcher, Call, Limits},
    errors::classify,
    sqs_calls::{Calls, no_answer},
};
use crate::cloud::{
    CloudError, CloudResult, Delivery, Depth, Message, Queue, Receipt,
    queue_limits::{MAX_BATCH, check_message, check_receive, check_visibility},
};

/// Bytes of the bodies in one call.
const MAX_CALL: usize = 1 << 20;

/// One queue.
pub struct SqsQueue {
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
    pub fn new(client: Client, name: &str, url: String, linger: Duration) -> Self {
        let name: Arc<str> = name.into();
        let limits = Limits { entries: MAX_BATCH, weight: MAX_CALL, linger };
        let calls = Calls { client: client.clone(), name: name.clone(), url: url.clone() };
        let send_now: Call<Message> = calls.clone().call(async |calls: Calls, batch| calls.send(batch).await);
        let delete: Call<Receipt> = calls.clone().call(async |calls: Calls, batch| calls.delete(batch).await);
        let extend = calls.call(async |calls: Calls, batch| calls.extend(batch).await);
        Self {
            fifo: name.ends_with(".fifo"),
            sends: Batcher::new(limits, text_len, send_now.clone()),
            deletes: Batcher::new(limits, |_| 0, delete),
            extensions: Batcher::new(limits, |_| 0, extend),
            client,
            name,
            url,
            send_now,
        }
    }

    /// Sends in as few calls as the limits allow, one after the other.
    async fn send_in_order(&self, messages: Vec<Message>) -> Vec<CloudResult<()>> {
        let mut results = Vec::with_capacity(messages.len());
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < MAX_BATCH
                && let Some(message) = messages.next_if(|m| batch.is_empty() || bytes + text_len(m) <= MAX_CALL)
            {
                bytes += text_len(&message);
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
        let checks: Vec<CloudResult<()>> = batch.iter().map(|m| check_message(&self.name, self.fifo, m)).collect();
        let good: Vec<Message> =
            batch.into_iter().zip(&checks).filter(|(_, check)| check.is_ok()).map(|(message, _)| message).collect();
        let sent = if share_a_group(&good) { self.send_in_order(good).await } else { self.sends.submit(good).await };
        let mut sent = sent.into_iter();
        let result =
            |check: CloudResult<()>| check.and_then(|()| sent.next().unwrap_or_else(|| Err(no_answer(&self.name))));
        checks.into_iter().map(result).collect()
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        check_receive(max, wait)?;
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

/// Bytes of a body in base64, as SQS carries it: text.
fn text_len(message: &Message) -> usize {
    message.body.len().div_ceil(3) * 4
}

fn delivery(message: aws_sdk_sqs::types::Message) -> Delivery {
    let attributes = message.attributes.unwrap_or_default();
    let receives = attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount).and_then(|n| n.parse().ok());
    let body = message.body.unwrap_or_default();
    Delivery {
        // What is not base64 is not of ours; whoever reads it will say so.
        body: BASE64.decode(&body).unwrap_or(body.into_bytes()).into(),
        receipt: Receipt(message.receipt_handle.unwrap_or_default()),
        receives: receives.unwrap_or(1),
    }
}

/// SQS counts in seconds: no shorter than asked.
pub fn whole_seconds(duration: Duration) -> i32 {
    duration.as_millis().div_ceil(1000) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! The batch calls of SQS. Each returns one result per entry, even if the call as a whole fails.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        SendMessageBatchRequestEntry,
    },
};

use super::{
    super::errors::{classify, classify_code, code},
    batcher::Call,
    encoding::{encode, whole_seconds},
};
use crate::cloud::aws::call_sites::CallSite as _;
use crate::cloud::{CloudError, CloudResult, Message, Receipt};

/// The batch calls of one queue.
#[derive(Clone)]
pub(super) struct BatchCalls {
    pub(super) client: Client,
    pub(super) name: Arc<str>,
    pub(super) url: String,
}

impl BatchCalls {
    /// Binds one of the calls to this queue, for a batcher.
    pub(super) fn call<T, F, R>(self, make: F) -> Call<T>
    where
        T: Send + 'static,
        F: Fn(Self, Vec<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<CloudResult<()>>> + Send + 'static,
    {
        Arc::new(move |batch| Box::pin(make(self.clone(), batch)))
    }

    /// Sends a batch. Splits it in half if the service accepts less per call than documented, as older regions and
    /// other implementations do.
    pub(super) async fn send(self, mut batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let output = match entries(batch.iter().cloned(), send_entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
                match call.recorded().send().await {
                    Err(error) if batch.len() > 1 && code(&error).ends_with("BatchRequestTooLong") => {
                        let rest = batch.split_off(batch.len() / 2);
                        let mut results = Box::pin(self.clone().send(batch)).await;
                        results.extend(Box::pin(self.send(rest)).await);
                        return results;
                    }
                    output => output.map_err(|e| self.classify(e)),
                }
            }
        };
        let output = output.map(|a| (a.successful.into_iter().map(|e| e.id).collect(), a.failed));
        results(&self.name, batch.len(), output)
    }

    /// Deletes the messages of a batch of receipts.
    pub(super) async fn delete(self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        let entry = |(at, receipt): (usize, Receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt.0).build()
        };
        let output = match entries(batch, entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries));
                call.recorded().send().await.map_err(|e| self.classify(e))
            }
        };
        results(&self.name, n, output.map(|a| (a.successful.into_iter().map(|e| e.id).collect(), a.failed)))
    }

    /// Sets the visibility of a batch of receipts.
    pub(super) async fn extend(self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        let entry = |(at, (receipt, visibility)): (usize, (Receipt, Duration))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(at.to_string())
                .receipt_handle(receipt.0)
                .visibility_timeout(whole_seconds(visibility))
                .build()
        };
        let output = match entries(batch, entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call =
                    self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries));
                call.recorded().send().await.map_err(|e| self.classify(e))
            }
        };
        results(&self.name, n, output.map(|a| (a.successful.into_iter().map(|e| e.id).collect(), a.failed)))
    }

    fn classify<E>(&self, error: aws_sdk_sqs::error::SdkError<E>) -> CloudError
    where
        E: aws_sdk_sqs::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        classify(&format!("queue {}", self.name), error)
    }
}

/// Converts the response to a batch of `n` entries into one result per entry. An entry's id is its position in the
/// batch.
fn results(
    queue: &str,
    n: usize,
    output: CloudResult<(Vec<String>, Vec<BatchResultErrorEntry>)>,
) -> Vec<CloudResult<()>> {
    let (successful, failed) = match output {
        Ok(output) => output,
        Err(error) => return vec![Err(error); n],
    };
    let mut results = vec![Err(no_result(queue)); n];
    let mut set = |id: &str, result| {
        if let Some(slot) = id.parse().ok().and_then(|at: usize| results.get_mut(at)) {
            *slot = result;
        }
    };
    successful.iter().for_each(|id| set(id, Ok(())));
    for entry in failed {
        // An entry has no HTTP status: `sender_fault` stands in for it.
        let status = if entry.sender_fault { 400 } else { 500 };
        let message = entry.message.unwrap_or_default();
        set(&entry.id, Err(classify_code(&format!("queue {queue}"), &entry.code, &message, status)));
    }
    results
}

/// Returns the error of an entry that the response does not mention.
pub(super) fn no_result(queue: &str) -> CloudError {
    CloudError::Unavailable(format!("queue {queue}: no result for this entry in the response"))
}

fn send_entry((at, message): (usize, Message)) -> Result<SendMessageBatchRequestEntry, BuildError> {
    SendMessageBatchRequestEntry::builder()
        .id(at.to_string())
        .message_body(encode(&message.body))
        .set_message_group_id(message.group)
        .set_message_deduplication_id(message.dedup)
        .set_delay_seconds(Some(whole_seconds(message.delay)).filter(|s| *s > 0))
        .build()
}

fn entries<T, E>(
    batch: impl IntoIterator<Item = T>,
    entry: impl Fn((usize, T)) -> Result<E, BuildError>,
) -> CloudResult<Vec<E>> {
    let built: Result<Vec<E>, BuildError> = batch.into_iter().enumerate().map(entry).collect();
    built.map_err(|e| CloudError::Invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(id: &str, code: &str, sender_fault: bool) -> BatchResultErrorEntry {
        BatchResultErrorEntry::builder().id(id).code(code).sender_fault(sender_fault).build().unwrap()
    }

    #[test]
    fn each_entry_has_the_result_of_its_own_id() {
        let failed = vec![failed("2", "Novel", true), failed("0", "Novel", false), failed("9", "Novel", true)];
        let results = results("q", 4, Ok((vec!["1".into(), "x".into()], failed)));
        assert_eq!(results[1], Ok(()));
        assert!(matches!(results[2], Err(CloudError::Invalid(_))), "the caller's fault: {:?}", results[2]);
        assert!(matches!(results[0], Err(CloudError::Unavailable(_))), "SQS's fault: {:?}", results[0]);
        assert_eq!(results[3], Err(no_result("q")));
    }

    #[test]
    fn a_failed_call_fails_every_entry() {
        assert_eq!(results("q", 3, Err(CloudError::Throttled)), vec![Err(CloudError::Throttled); 3]);
    }

    #[test]
    fn an_entry_carries_the_message_and_delays_in_whole_seconds() {
        let message = Message { group: Some("g".into()), dedup: Some("d".into()), ..Message::default() };
        let entry = send_entry((7, Message { body: "hi".into(), ..message.clone() })).unwrap();
        assert_eq!((entry.id(), entry.message_body(), entry.delay_seconds()), ("7", "aGk=", None));
        assert_eq!((entry.message_group_id(), entry.message_deduplication_id()), (Some("g"), Some("d")));
        let delayed = send_entry((0, Message { delay: Duration::from_millis(1_500), ..message })).unwrap();
        assert_eq!(delayed.delay_seconds(), Some(2));
    }
}

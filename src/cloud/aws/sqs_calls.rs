//! The batch calls of SQS: one result an entry, whatever becomes of the call.

use std::{sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        SendMessageBatchRequestEntry,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    batcher::Call,
    errors::{classify, classify_code, code},
    sqs_queue::whole_seconds,
};
use crate::cloud::{CloudError, CloudResult, Message, Receipt};

/// The batch calls of one queue.
#[derive(Clone)]
pub struct Calls {
    pub client: Client,
    pub name: Arc<str>,
    pub url: String,
}

impl Calls {
    /// `make` as the batcher calls it.
    pub fn call<T, F, R>(self, make: F) -> Call<T>
    where
        T: Send + 'static,
        F: Fn(Self, Vec<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<CloudResult<()>>> + Send + 'static,
    {
        Arc::new(move |batch| Box::pin(make(self.clone(), batch)))
    }

    /// Sends a batch; in halves where SQS takes less in one call than it should (older regions and stores).
    pub async fn send(self, mut batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let answer = match entries(batch.iter().cloned(), send_entry) {
            Err(error) => Err(error),
            Ok(entries) => {
                let call = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
                match call.send().await {
                    Err(error) if batch.len() > 1 && code(&error).ends_with("BatchRequestTooLong") => {
                        let rest = batch.split_off(batch.len() / 2);
                        let mut results = Box::pin(self.clone().send(batch)).await;
                        results.extend(Box::pin(self.send(rest)).await);
                        return results;
                    }
                    answer => answer.map_err(|e| self.classify(e)),
                }
            }
        };
        let answer = answer.map(|a| (a.successful.into_iter().map(|e| e.id).collect(), a.failed));
        self.results(batch.len(), answer)
    }

    pub async fn delete(self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
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

    pub async fn extend(self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
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

/// What an entry gets that is not in the answer.
pub fn no_answer(queue: &str) -> CloudError {
    CloudError::Unavailable(format!("queue {queue}: no result for this entry in the answer"))
}

fn send_entry((at, message): (usize, Message)) -> Result<SendMessageBatchRequestEntry, BuildError> {
    SendMessageBatchRequestEntry::builder()
        .id(at.to_string())
        .message_body(BASE64.encode(message.body))
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

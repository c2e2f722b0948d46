//! The batch calls of one queue on SQS: a result for each entry, in order, whatever part of the call failed.

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
    batcher::Call,
    errors::{classify, classify_code},
    sqs_queue::whole_seconds,
};
use crate::cloud::{CloudError, CloudResult, Message, Receipt};

/// See the module.
#[derive(Clone)]
pub(super) struct Calls {
    pub client: Client,
    /// For messages to people.
    pub name: Arc<str>,
    pub url: String,
}

impl Calls {
    pub(super) fn call<T, F, R>(self, make: F) -> Call<T>
    where
        T: Send + 'static,
        F: Fn(Self, Vec<T>) -> R + Send + Sync + 'static,
        R: Future<Output = Vec<CloudResult<()>>> + Send + 'static,
    {
        Arc::new(move |batch| Box::pin(make(self.clone(), batch)))
    }

    pub(super) async fn send(self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
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

    pub(super) async fn delete(self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
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

    pub(super) async fn extend(self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
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

pub(super) fn no_answer(queue: &str) -> CloudError {
    CloudError::Unavailable(format!("queue {queue}: no result for this entry in the answer"))
}

fn entries<T, E>(batch: Vec<T>, entry: impl Fn((usize, T)) -> Result<E, BuildError>) -> CloudResult<Vec<E>> {
    let built: Result<Vec<E>, BuildError> = batch.into_iter().enumerate().map(entry).collect();
    built.map_err(|e| CloudError::Invalid(e.to_string()))
}

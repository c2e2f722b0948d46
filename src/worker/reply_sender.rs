//! Sends replies to the queues that jobs name.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::Mutex;

use crate::{
    cloud::{CloudError, CloudResult, Message, Queue, Queues},
    job::Reply,
    telemetry::WorkerReport,
    wire,
};

/// Sends replies to the queues that jobs name.
pub struct ReplySender {
    queues: Arc<dyn Queues>,
    /// Name, or prefix of the names, of the queues that replies may go to.
    prefix: String,
    /// Reply queues by name, opened once.
    open: Mutex<HashMap<String, Arc<dyn Queue>>>,
}

impl ReplySender {
    /// Creates a sender to those of `queues` whose name is or begins with `prefix`.
    pub fn new(queues: Arc<dyn Queues>, prefix: String) -> Self {
        Self { queues, prefix, open: Mutex::default() }
    }

    /// Sends a reply to the queue `to`. If there is no such queue any more, its web node is gone, and with it every
    /// request that waited for the reply: that is `Ok`. So is a reply that may not be sent there, because it may not be
    /// after a repetition of the job either, and the result of a job must not depend on the reply.
    ///
    /// # Errors
    /// `Invalid` for a queue that is not one for replies. Any other error of the queue.
    pub async fn send(&self, to: &str, reply: &Reply) -> CloudResult<()> {
        let body = wire::to_bytes(reply).map_err(|e| CloudError::Invalid(e.to_string()))?;
        let message = Message { body, ..Message::default() };
        let sent = async { self.queue(to).await?.send_one(message).await };
        match sent.await {
            Err(CloudError::NotFound(_)) => {
                tracing::info!(id = %reply.id, queue = to, "nobody waits for the reply: its queue is gone");
                self.open.lock().await.remove(to);
                Ok(())
            }
            Err(error @ CloudError::Denied(_)) => {
                tracing::error!(%error, id = %reply.id, queue = to, "the reply may not be sent: only the result is stored");
                Ok(())
            }
            sent => sent,
        }
    }

    /// Sends what this worker has measured to the queue `to`.
    ///
    /// # Errors
    /// `Invalid` for a queue that is not one for replies. Any other error of the queue.
    pub async fn send_report(&self, to: &str, report: &WorkerReport) -> CloudResult<()> {
        let body = wire::to_bytes(report).map_err(|e| CloudError::Invalid(e.to_string()))?;
        self.queue(to).await?.send_one(Message { body, ..Message::default() }).await
    }

    async fn queue(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        if !name.starts_with(&self.prefix) {
            return Err(CloudError::Invalid(format!("reply queue {name} is not one of {}", self.prefix)));
        }
        let mut open = self.open.lock().await;
        if let Some(queue) = open.get(name) {
            return Ok(queue.clone());
        }
        let queue = self.queues.open(name).await?;
        open.insert(name.to_owned(), queue.clone());
        Ok(queue)
    }
}

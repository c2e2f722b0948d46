//! Counts the calls to the ports, by port, call and outcome: `rollcall_cloud_calls_total`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use metrics::counter;
use tokio::sync::watch;

use super::{
    CloudError, CloudResult, Compute, Delivery, Depth, ETag, Instance, InstanceId, Message, NewObject, Object,
    ObjectInfo, ObjectStore, Polling, Precondition, Queue, QueueSpec, Queues, Receipt,
};

/// Returns the label of an outcome.
pub fn outcome<T>(result: &CloudResult<T>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(CloudError::NotFound(_)) => "not-found",
        Err(CloudError::Conflict(_)) => "conflict",
        Err(CloudError::Invalid(_)) => "invalid",
        Err(CloudError::Denied(_)) => "denied",
        Err(CloudError::Throttled) => "throttled",
        Err(CloudError::NoCapacity(_)) => "no-capacity",
        Err(CloudError::Quota(_)) => "quota",
        Err(CloudError::Unavailable(_)) => "unavailable",
    }
}

fn counted<T>(port: &'static str, call: &'static str, result: CloudResult<T>) -> CloudResult<T> {
    count(port, call, outcome(&result));
    result
}

/// Counts a call on a batch, which ends like the first of its entries that failed.
fn counted_batch<T>(port: &'static str, call: &'static str, results: Vec<CloudResult<T>>) -> Vec<CloudResult<T>> {
    count(port, call, results.iter().find(|result| result.is_err()).map_or("ok", outcome));
    results
}

fn count(port: &'static str, call: &'static str, outcome: &'static str) {
    counter!("rollcall_cloud_calls_total", "port" => port, "call" => call, "outcome" => outcome).increment(1);
}

/// Counts the calls to a port.
pub struct Metered<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Metered<T> {
    /// Creates a port that passes every call on to `port`.
    pub fn new(port: Arc<T>) -> Self {
        Self(port)
    }
}

#[async_trait]
impl Queues for Metered<dyn Queues> {
    fn polling(&self) -> Polling {
        self.0.polling()
    }

    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        let created = counted("queue", "create", self.0.create(spec).await)?;
        Ok(Arc::new(Metered(created)))
    }

    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        let opened = counted("queue", "open", self.0.open(name).await)?;
        Ok(Arc::new(Metered(opened)))
    }
}

#[async_trait]
impl Queue for Metered<dyn Queue> {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        counted_batch("queue", "send", self.0.send(batch).await)
    }

    async fn send_one(&self, message: Message) -> CloudResult<()> {
        counted("queue", "send", self.0.send_one(message).await)
    }

    async fn send_buffered(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        counted_batch("queue", "send", self.0.send_buffered(batch).await)
    }

    async fn flush(&self) -> CloudResult<()> {
        counted("queue", "flush", self.0.flush().await)
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        counted("queue", "receive", self.0.receive(max, wait).await)
    }

    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        counted_batch("queue", "delete", self.0.delete(batch).await)
    }

    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        counted_batch("queue", "extend", self.0.extend(batch).await)
    }

    async fn depth(&self) -> CloudResult<Depth> {
        counted("queue", "depth", self.0.depth().await)
    }

    fn oldest(&self) -> Option<Duration> {
        self.0.oldest()
    }
}

#[async_trait]
impl ObjectStore for Metered<dyn ObjectStore> {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        counted("objects", "put", self.0.put(bucket, key, bytes, when).await)
    }

    async fn put_buffered(&self, objects: Vec<NewObject>) -> CloudResult<()> {
        counted("objects", "put", self.0.put_buffered(objects).await)
    }

    async fn flush(&self) -> CloudResult<()> {
        counted("objects", "flush", self.0.flush().await)
    }

    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        counted("objects", "get", self.0.get(bucket, key).await)
    }

    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        counted("objects", "get", self.0.get_if_changed(bucket, key, etag).await)
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        counted("objects", "list", self.0.list(bucket, prefix).await)
    }

    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        counted("objects", "delete", self.0.delete(bucket, key).await)
    }

    async fn check(&self, bucket: &str) -> CloudResult<()> {
        counted("objects", "check", self.0.check(bucket).await)
    }
}

#[async_trait]
impl Compute for Metered<dyn Compute> {
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        counted("compute", "launch", self.0.launch(token, count).await)
    }

    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        counted_batch("compute", "start", self.0.start(ids).await)
    }

    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>> {
        counted_batch("compute", "terminate", self.0.terminate(ids).await)
    }

    async fn describe(&self) -> CloudResult<Vec<Instance>> {
        counted("compute", "describe", self.0.describe().await)
    }

    fn limit_idle(&self, limits: &[(InstanceId, Duration)]) {
        self.0.limit_idle(limits);
    }

    fn changes(&self) -> Option<watch::Receiver<u64>> {
        self.0.changes()
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn calls_are_counted_with_their_outcome() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let world = World::new().await;
        let objects: Metered<dyn ObjectStore> = Metered::new(world.objects.clone());
        let queue: Metered<dyn Queue> = Metered::new(world.requests.clone());
        for _ in 0..2 {
            assert!(objects.get("bucket", "nothing").await.is_err());
        }
        objects.put("bucket", "a", Bytes::new(), Precondition::Always).await.expect("put");
        assert!(objects.put("bucket", "a", Bytes::new(), Precondition::Absent).await.is_err());
        let bad = Message { body: Bytes::new(), group: None, ..Message::default() };
        let good = Message { group: Some("g".into()), dedup: Some("g".into()), ..bad.clone() };
        assert_eq!(queue.send(vec![good.clone(), bad]).await.iter().filter(|sent| sent.is_ok()).count(), 1);
        queue.send_one(Message { dedup: Some("h".into()), ..good }).await.expect("sent");
        queue.receive(10, Duration::ZERO).await.expect("received");
        let rendered = recorder.handle().render();
        for (labels, count) in [
            (r#"port="objects",call="get",outcome="not-found""#, 2),
            (r#"port="objects",call="put",outcome="ok""#, 1),
            (r#"port="objects",call="put",outcome="conflict""#, 1),
            (r#"port="queue",call="send",outcome="invalid""#, 1),
            (r#"port="queue",call="send",outcome="ok""#, 1),
            (r#"port="queue",call="receive",outcome="ok""#, 1),
        ] {
            let line = format!("rollcall_cloud_calls_total{{{labels}}} {count}\n");
            assert!(rendered.contains(&line), "{line} in {rendered}");
        }
    }
}

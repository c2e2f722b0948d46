//! What unit tests share: real ports on a temporary folder, and small handlers.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    cloud::{
        Delivery, Message, ObjectStore, Queue, QueueSpec, Queues,
        local::{Broker, LocalObjects},
    },
    job::{Job, JobId, JobKind, Payload, Reply},
    results::ResultStore,
    settings::{Layers, Machine, Settings},
    wire,
    worker::{Executor, JobHandler},
};

/// Returns the default settings of a machine with two cores.
pub fn settings() -> Settings {
    let layers = Layers::load(None, Default::default()).expect("the defaults");
    Settings::from_layers(&layers, Machine::with_cores(2)).expect("the defaults are valid")
}

/// Queues and objects in a temporary folder.
pub struct World {
    pub settings: Settings,
    pub queues: Arc<Broker>,
    pub objects: Arc<LocalObjects>,
    pub results: ResultStore,
    pub requests: Arc<dyn Queue>,
    pub replies: Arc<dyn Queue>,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        let mut settings = settings();
        let folder = tempfile::tempdir().expect("a temporary folder");
        settings.local.data_dir = folder.path().to_owned();
        let objects = Arc::new(LocalObjects::open(folder.path()).expect("a store"));
        let queues = Arc::new(Broker::open(folder.path()).expect("a journal"));
        let spec = |name: &str, fifo| QueueSpec {
            name: name.into(),
            fifo,
            visibility: settings.queue.visibility,
            max_receives: settings.queue.max_receives,
            dead_letter: None,
            durable: fifo,
        };
        let requests = queues.create(spec(&settings.queue.listener, true)).await.expect("a queue");
        let replies = queues.create(spec(&settings.queue.speaker, false)).await.expect("a queue");
        let results = ResultStore::new(objects.clone(), settings.store.clone());
        Self { settings, queues, objects, results, requests, replies, _folder: folder }
    }

    /// Returns a job with the payload in its message.
    pub fn job(&self, id: u128, payload: &'static str) -> Job {
        Job {
            id: JobId(id),
            kind: JobKind(1_000),
            reply_to: self.settings.queue.speaker.clone(),
            file: "a.txt".into(),
            payload: Payload::Inline(Bytes::from_static(payload.as_bytes())),
            dataset: String::new(),
            min_version: 0,
            submitted_ms: 1,
        }
    }

    /// Sends a job as a client does.
    pub async fn send(&self, job: &Job) {
        let id = job.id.to_string();
        let message = Message {
            body: wire::to_bytes(job).expect("encoded"),
            group: Some(id.clone()),
            dedup: Some(id),
            ..Message::default()
        };
        self.requests.send(vec![message]).await.remove(0).expect("sent");
    }

    /// Receives the next job, as a worker does.
    pub async fn receive(&self) -> Delivery {
        let wait = std::time::Duration::from_secs(5);
        self.requests.receive(1, wait).await.expect("received").pop().expect("a job")
    }

    /// Receives the replies that have arrived.
    pub async fn replies(&self) -> Vec<Reply> {
        let received = self.replies.receive(10, std::time::Duration::ZERO).await.expect("received");
        received.iter().map(|delivery| wire::from_bytes(&delivery.body).expect("a reply")).collect()
    }

    /// Returns the keys of all objects of a bucket.
    pub async fn keys(&self, bucket: &str) -> Vec<String> {
        let objects = self.objects.list(bucket, "").await.expect("listed");
        objects.into_iter().map(|object| object.key).collect()
    }

    /// Returns all objects of the three buckets, as `bucket/key`.
    pub async fn everything(&self) -> Vec<String> {
        let store = &self.settings.store;
        let mut all = Vec::new();
        for bucket in [&store.input, &store.output, &store.state] {
            all.extend(self.keys(bucket).await.into_iter().map(|key| format!("{bucket}/{key}")));
        }
        all
    }
}

/// Handles jobs with a function of the payload.
pub struct Handler<F>(pub F);

impl<F> JobHandler for Handler<F>
where
    F: Fn(&str) -> Result<crate::job::Output, crate::job::Failure> + Clone + Send + Sync + 'static,
{
    fn executor(&self) -> anyhow::Result<Executor> {
        let function = self.0.clone();
        Ok(Box::new(move |_, payload| function(std::str::from_utf8(payload).expect("UTF-8"))))
    }

    fn retention(&self, kind: JobKind) -> crate::job::Retention {
        if kind == DISCARDED { crate::job::Retention::Discard } else { crate::job::Retention::Keep }
    }
}

/// A kind of job of which [`Handler`] keeps nothing.
pub const DISCARDED: JobKind = JobKind(1_001);

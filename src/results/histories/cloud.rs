//! A queue and a store in memory, whose calls take effect one at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    cloud::{
        CloudError, CloudResult, Delivery, Depth, ETag, Message, Object, ObjectInfo, ObjectStore, Precondition, Queue,
        Receipt,
    },
    job::JobId,
    results::{JobResult, Status},
};

/// Receives after which a job is given up.
pub const MAX_RECEIVES: u32 = 2;

/// Pending once. Whoever polls a process decides when its next call takes effect.
struct Turn(bool);

impl Future for Turn {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Waits for this process's next turn.
pub async fn turn() {
    Turn(false).await;
}

struct Stored {
    job: JobId,
    body: Bytes,
    dedup: String,
    receives: u32,
    durable: bool,
    /// The current delivery; `None` while the message is visible.
    delivery: Option<u64>,
}

#[derive(Default)]
struct Queued {
    messages: BTreeMap<u64, Stored>,
    /// Jobs that have been sent, and those among them that were sent a second time.
    sent: BTreeSet<JobId>,
    sent_twice: BTreeSet<JobId>,
    /// Deduplication ids that are remembered.
    recent: HashSet<String>,
    last: u64,
}

/// A FIFO queue, embedded or remote. One group per job.
#[derive(Clone, Default)]
pub struct FakeQueue {
    state: Arc<Mutex<Queued>>,
    dead_letters: Option<Arc<FakeQueue>>,
}

impl FakeQueue {
    pub fn with_dead_letters(dead_letters: Arc<FakeQueue>) -> Self {
        Self { dead_letters: Some(dead_letters), ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, Queued> {
        self.state.lock().expect("no panic")
    }

    fn insert(&self, message: Message, durable: bool) -> Option<u64> {
        let mut state = self.state();
        let dedup = message.dedup.expect("an id");
        if !state.recent.insert(dedup.clone()) {
            return None;
        }
        state.last += 1;
        let seq = state.last;
        let job = message.group.and_then(|group| group.parse().ok()).expect("the group is the job");
        if !state.sent.insert(job) {
            state.sent_twice.insert(job);
        }
        state.messages.insert(seq, Stored { job, body: message.body, dedup, receives: 0, durable, delivery: None });
        Some(seq)
    }

    /// Returns the jobs of the messages, as they were before this call.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> + use<> {
        let jobs: Vec<JobId> = self.state().messages.values().map(|message| message.job).collect();
        jobs.into_iter()
    }

    /// Returns the jobs of which there may have been two messages at the same time.
    pub fn sent_twice(&self) -> BTreeSet<JobId> {
        self.state().sent_twice.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.state().messages.is_empty()
    }

    /// Forgets which messages were sent recently.
    pub fn close_deduplication_window(&self) {
        self.state().recent.clear();
    }

    /// Makes all messages durable, as the queue does from time to time.
    pub fn write(&self) {
        self.state().messages.values_mut().for_each(|message| message.durable = true);
    }

    /// Makes the message of a delivery visible, because its receiver has died or takes too long.
    pub fn release(&self, receipt: &Receipt) {
        for message in self.state().messages.values_mut() {
            if message.delivery.map(|n| n.to_string()).as_ref() == Some(&receipt.0) {
                message.delivery = None;
            }
        }
    }

    /// Ends the process of an embedded queue, and starts it again.
    pub fn crash(&self) {
        let mut state = self.state();
        state.messages.retain(|_, message| message.durable);
        for message in state.messages.values_mut() {
            message.delivery = None;
            message.receives = message.receives.saturating_sub(1); // the first receive is not written
        }
        state.recent = state.messages.values().map(|message| message.dedup.clone()).collect();
    }
}

#[async_trait]
impl Queue for FakeQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let mut out = Vec::new();
        for message in batch {
            turn().await;
            let seq = self.insert(message, false);
            turn().await;
            match seq {
                Some(seq) => {
                    if let Some(message) = self.state().messages.get_mut(&seq) {
                        message.durable = true;
                    }
                }
                None => self.write(), // the first message with this id
            }
            out.push(Ok(()));
        }
        out
    }

    async fn send_buffered(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        turn().await;
        batch.into_iter().map(|message| self.insert(message, false)).map(|_| Ok(())).collect()
    }

    async fn flush(&self) -> CloudResult<()> {
        turn().await;
        self.write();
        Ok(())
    }

    async fn receive(&self, _: usize, _: Duration) -> CloudResult<Vec<Delivery>> {
        turn().await;
        let mut state = self.state();
        state.last += 1;
        let delivery = state.last;
        let Some((&seq, message)) = state.messages.iter_mut().find(|(_, message)| message.delivery.is_none()) else {
            return Ok(Vec::new());
        };
        message.receives += 1;
        if let (Some(dead), true) = (&self.dead_letters, message.receives > MAX_RECEIVES) {
            let message = state.messages.remove(&seq).expect("just found");
            let (group, dedup) = (Some(message.job.to_string()), Some(seq.to_string()));
            dead.insert(Message { body: message.body, group, dedup, delay: Duration::ZERO }, true);
            return Ok(Vec::new());
        }
        message.delivery = Some(delivery);
        let (body, receives, group) = (message.body.clone(), message.receives, Some(message.job.to_string()));
        Ok(vec![Delivery { body, receipt: Receipt(delivery.to_string()), receives, group }])
    }

    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        turn().await;
        let mut state = self.state();
        for receipt in &batch {
            state.messages.retain(|_, message| message.delivery.map(|n| n.to_string()).as_ref() != Some(&receipt.0));
        }
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    async fn depth(&self) -> CloudResult<Depth> {
        Ok(Depth::default())
    }
}

#[derive(Default)]
struct Objects {
    objects: BTreeMap<(String, String), (Bytes, u64)>,
    last: u64,
    /// Results that moved backward.
    backward: BTreeSet<String>,
    /// Results that were done and were replaced by other ones.
    changed: BTreeSet<String>,
}

/// A store.
#[derive(Clone)]
pub struct FakeStore {
    state: Arc<Mutex<Objects>>,
    unconditional: bool,
}

impl FakeStore {
    /// Creates an empty store. `unconditional` is a deliberate bug: it ignores the conditions of puts.
    pub fn new(unconditional: bool) -> Self {
        Self { state: Arc::default(), unconditional }
    }

    fn state(&self) -> MutexGuard<'_, Objects> {
        self.state.lock().expect("no panic")
    }

    /// Returns the results that were put over one that was further on.
    pub fn backward(&self) -> BTreeSet<String> {
        self.state().backward.clone()
    }

    /// Returns the results that were done and were replaced by other ones.
    pub fn changed(&self) -> BTreeSet<String> {
        self.state().changed.clone()
    }

    /// Returns all objects as `bucket/key`, with their bytes.
    pub fn everything(&self) -> Vec<(String, Bytes)> {
        let state = self.state();
        state.objects.iter().map(|((bucket, key), (bytes, _))| (format!("{bucket}/{key}"), bytes.clone())).collect()
    }
}

fn status(bytes: &[u8]) -> Option<Status> {
    serde_json::from_slice::<JobResult>(bytes).ok().map(|result| result.status)
}

#[async_trait]
impl ObjectStore for FakeStore {
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag> {
        turn().await;
        let mut state = self.state();
        let place = (bucket.to_owned(), key.to_owned());
        let existing = state.objects.get(&place);
        let holds = match (&when, existing) {
            (Precondition::Always, _) | (Precondition::Absent, None) => true,
            (Precondition::Match(etag), Some((_, version))) => etag.0 == version.to_string(),
            (Precondition::Absent, Some(_)) | (Precondition::Match(_), None) => false,
        };
        if !holds && !self.unconditional {
            return Err(CloudError::Conflict(key.to_owned()));
        }
        let (before, after) = (existing.and_then(|(before, _)| status(before)), status(&bytes));
        let changes = existing.is_some_and(|(before, _)| *before != bytes);
        if before > after {
            state.backward.insert(key.to_owned());
        } else if before == Some(Status::Done) && after == before && changes {
            state.changed.insert(key.to_owned());
        }
        state.last += 1;
        let version = state.last;
        state.objects.insert(place, (bytes, version));
        Ok(ETag(version.to_string()))
    }

    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object> {
        turn().await;
        let state = self.state();
        let found = state.objects.get(&(bucket.to_owned(), key.to_owned()));
        let (bytes, version) = found.ok_or_else(|| CloudError::NotFound(key.to_owned()))?;
        Ok(Object { bytes: bytes.clone(), etag: ETag(version.to_string()) })
    }

    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>> {
        let object = self.get(bucket, key).await?;
        Ok(Some(object).filter(|object| object.etag != *etag))
    }

    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>> {
        turn().await;
        let state = self.state();
        let here = state.objects.iter().filter(|((b, key), _)| b == bucket && key.starts_with(prefix));
        Ok(here
            .map(|((_, key), (bytes, _))| ObjectInfo { key: key.clone(), size: bytes.len() as u64, modified_ms: 0 })
            .collect())
    }

    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()> {
        turn().await;
        self.state().objects.remove(&(bucket.to_owned(), key.to_owned()));
        Ok(())
    }

    async fn check(&self, _: &str) -> CloudResult<()> {
        turn().await;
        Ok(())
    }
}

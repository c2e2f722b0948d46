//! The ports: what Rollcall needs from a cloud, independent of any provider.
//!
//! [`local`] is the embedded cloud of one machine; `aws` (a feature) is SQS, S3 and EC2. Each trait documents the
//! contract of its port, which holds for every adapter; `tests/cloud/contract` checks it.
//!
//! # Errors
//! Every call may also fail with a transport error ([`CloudError::Unavailable`], [`CloudError::Throttled`]), after
//! which the call may or may not have been applied. [`CloudError::retryable`] says which errors are transient. Unless
//! documented otherwise, a call may be repeated safely after such an error.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use crate::fleet::{CloudError, CloudResult, Depth, Instance, InstanceId, InstanceState};

#[cfg(feature = "aws")]
pub mod aws;
pub mod headroom;
pub mod lease;
pub mod local;
pub mod metered;
pub(crate) mod object_key;
pub(crate) mod polling;
pub(crate) mod queue_limits;

// ---------------------------------------------------------------- queues

/// Largest `max` of [`Queue::receive`], and the most entries in one SQS call.
pub const MAX_BATCH: usize = 10;

/// The settings of a queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSpec {
    /// Name of the queue, unique in its cluster. On SQS the name of a FIFO queue ends in `.fifo`.
    pub name: String,
    /// Whether messages are ordered within their group, and deduplicated by [`Message::dedup`] for five minutes.
    pub fifo: bool,
    /// How long a received message stays hidden unless its receipt is extended or deleted; at most 12 hours.
    pub visibility: Duration,
    /// Maximum number of deliveries of a message. After that, it moves to `dead_letter` instead of being delivered
    /// again.
    pub max_receives: u32,
    /// Name of the queue that takes messages received too often; it must exist. Without one, such messages are dropped,
    /// or, on SQS, redelivered until their retention period ends.
    pub dead_letter: Option<String>,
    /// Whether messages survive a crash of the process. A reply queue need not be durable if the requests that wait for
    /// its messages end with the same process.
    pub durable: bool,
}

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Any bytes; at most 768 KiB, which is 1 MiB in base64.
    pub body: Bytes,
    /// Message group: required by FIFO queues, and not allowed on others. Messages of one group are delivered in order,
    /// and only while no earlier one of them is in flight.
    pub group: Option<String>,
    /// Deduplication id; FIFO queues only. A second message with the same id within five minutes is accepted and
    /// dropped.
    pub dedup: Option<String>,
    /// Time until the first delivery; at most 15 minutes, and zero on FIFO queues.
    pub delay: Duration,
}

/// The right to delete or extend one delivery of a message. Each delivery has its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt(
    /// Opaque text, created by the adapter.
    pub String,
);

/// How long a durable queue keeps a message: as long as SQS allows.
pub const QUEUE_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// A received message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The bytes that were sent.
    pub body: Bytes,
    /// The receipt of this delivery.
    pub receipt: Receipt,
    /// How often the message has been received, including this time.
    pub receives: u32,
    /// The group of the message, if it has one.
    pub group: Option<String>,
}

/// One queue with at-least-once delivery and a receipt per delivery.
///
/// Calls on batches take any number of entries and return one result per entry, in the same order: some entries may
/// fail while others succeed. When a call fails as a whole, its error is the result of every entry.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Sends messages. `Ok` means that the message is stored, and on disk if the queue is durable.
    ///
    /// A message may be delivered before its `send` has returned. Repeating a send may deliver the message twice,
    /// except on a FIFO queue with a deduplication id.
    ///
    /// # Errors
    /// `Invalid` for a message that breaks the limits of [`Message`].
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>>;

    /// Sends one message as [`Self::send`] does.
    ///
    /// # Errors
    /// Same as [`Self::send`].
    async fn send_one(&self, message: Message) -> CloudResult<()> {
        let sent = self.send(vec![message]).await.pop();
        sent.unwrap_or_else(|| Err(CloudError::Unavailable("the queue returned no result".into())))
    }

    /// Sends messages like [`Self::send`], except that `Ok` may be returned before a message is durable.
    ///
    /// The message becomes durable within ten seconds, or when a [`Self::flush`] that began later has returned, unless
    /// it has been deleted by then. Until then it is lost if the process dies, so this is for senders that have not
    /// promised anything yet. See `docs/adr/0015-promises-decide-what-is-durable.md`.
    async fn send_buffered(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        self.send(batch).await
    }

    /// Makes durable every message that has been sent through this handle so far. Idempotent.
    async fn flush(&self) -> CloudResult<()> {
        Ok(())
    }

    /// Receives up to `max` (1 to [`MAX_BATCH`]) messages, waiting up to `wait` (at most 20 s) for the first one.
    ///
    /// Returns as soon as there is a message, or with no message if none has arrived in time. The messages are hidden
    /// from other receivers for the visibility of the queue. After an error, or when the future is dropped, messages
    /// may stay hidden for that long; none is lost.
    ///
    /// # Errors
    /// `Invalid` for a `max` or a `wait` out of range.
    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>>;

    /// Deletes the messages of deliveries. Idempotent: deleting a message that is gone is `Ok`.
    ///
    /// # Errors
    /// `Conflict` for a receipt whose message has been delivered again since; nothing is deleted. SQS reports it for
    /// FIFO queues only. `Invalid` or `Conflict` for a receipt of another queue.
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>>;

    /// Hides messages for the given time from now on (at most 12 hours). Zero returns the message to the queue: it
    /// becomes visible immediately. Idempotent, except that after zero the receipt is no longer valid.
    ///
    /// # Errors
    /// `Conflict` for a receipt whose visibility has ended, or whose message is gone. `Invalid` for a time over the
    /// limit.
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>>;

    /// Counts the messages without receiving them. The counts may be some seconds old.
    async fn depth(&self) -> CloudResult<Depth>;

    /// Returns the age of the oldest message that is not deleted, zero if there is none, or `None` if the queue does not tell.
    fn oldest(&self) -> Option<Duration> {
        None
    }
}

/// How the queues of a cloud are best polled: a call to a remote queue takes time and is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// How long a delete waits for others to share its call; zero if the queue batches calls itself.
    pub delete_linger: Duration,
    /// How long the next poll is delayed after one that returned fewer messages than requested, so that it returns
    /// several.
    pub poll_linger: Duration,
    /// How long a queue that is nearly always empty is left alone before each poll.
    pub rare_pause: Duration,
    /// How long a received job may wait for a thread, so that one receive returns several jobs.
    pub max_prefetch_delay: Duration,
    /// Whether a drain must wait for the poll under way instead of dropping it: the messages that are returned to a
    /// dropped poll stay hidden until their visibility timeout.
    pub finish_poll: bool,
    /// How many receives of one queue may be under way at a time where one process handles all of its messages: more than
    /// one if a call takes time.
    pub max_receives: usize,
}

/// All queues of a cluster.
#[async_trait]
pub trait Queues: Send + Sync + 'static {
    /// Returns how these queues are best polled.
    fn polling(&self) -> Polling;

    /// Creates the queue, or opens it if it exists. Idempotent for an equal spec.
    ///
    /// # Errors
    /// `Invalid` if the queue exists with another spec, if its dead-letter queue does not exist, or for a visibility
    /// over 12 hours. `Denied` for a caller that may not create queues.
    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>>;

    /// Opens a queue.
    ///
    /// # Errors
    /// `NotFound` if the queue was never created.
    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>>;
}

// ---------------------------------------------------------------- objects

/// An opaque tag of one version of an object. Equal bytes may have equal tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ETag(
    /// Opaque text, created by the adapter.
    pub String,
);

/// The condition of a put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// No condition.
    Always,
    /// There is no object with this key.
    Absent,
    /// The object with this key has this tag.
    Match(ETag),
}

/// The bytes of an object and the tag of their version.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The bytes that were put.
    pub bytes: Bytes,
    /// The tag of this version.
    pub etag: ETag,
}

/// An object to put.
#[derive(Clone, Debug, PartialEq)]
pub struct NewObject {
    /// Name of its bucket.
    pub bucket: String,
    /// Its key in the bucket.
    pub key: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The condition of the put.
    pub when: Precondition,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectInfo {
    /// Its key in the bucket.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last put, in milliseconds since the Unix epoch, by the clock of the store.
    pub modified_ms: u64,
}

/// Buckets of objects, consistent: a read sees every write that has returned.
///
/// Keys are relative paths (`a/b.jpg`). A key with an empty segment, `.`, `..`, a leading slash, a backslash, a control
/// character, a segment over 255 bytes, or more than 1,024 bytes in all is `Invalid`.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Writes an object completely or not at all, and returns its tag. The object is durable on return.
    ///
    /// Of concurrent puts with the same `Absent` or `Match` condition on one key, at most one succeeds. A conditional
    /// put that is repeated after an error may conflict with its own first attempt.
    ///
    /// # Errors
    /// `Conflict` if the condition does not hold, including for [`Precondition::Match`] on a key without an object.
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag>;

    /// Writes objects one after the other. Each is immediately visible to readers, but durable only once a
    /// [`Self::flush`] that began later has returned. A put with [`Precondition::Match`] on a key that is put here
    /// without a condition must not run at the same time: it may not see this one.
    ///
    /// This is for many small objects, if a store can make many durable at the cost of one. After an error, the first
    /// ones may have been written.
    ///
    /// # Errors
    /// Same as [`Self::put`].
    async fn put_buffered(&self, objects: Vec<NewObject>) -> CloudResult<()> {
        for NewObject { bucket, key, bytes, when } in objects {
            self.put(&bucket, &key, bytes, when).await?;
        }
        Ok(())
    }

    /// Makes durable every object that has been put through this store so far. May linger so that other callers share
    /// the work. After an error, the objects must be put again.
    async fn flush(&self) -> CloudResult<()> {
        Ok(())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// `NotFound` if there is no object with this key.
    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object>;

    /// Reads an object; returns `None` if it still has this tag.
    ///
    /// # Errors
    /// `NotFound` if there is no object with this key.
    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>>;

    /// Lists all objects whose key starts with `prefix`, ordered by key. For a bucket that is empty or does not exist
    /// yet, the list may be empty instead of `NotFound`.
    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>>;

    /// Deletes an object. Idempotent: deleting an object that does not exist is `Ok`.
    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()>;

    /// Checks that a bucket can be reached, by one call of the cheapest kind.
    ///
    /// # Errors
    /// `NotFound` if the bucket does not exist, unless the first put creates it.
    async fn check(&self, bucket: &str) -> CloudResult<()>;
}

// ---------------------------------------------------------------- machines

/// The instances of one cluster, and of no other.
///
/// Calls on several instances return one result per id, in the same order. An id that belongs to no instance of this
/// cluster is `NotFound`; an instance that was just launched may be `NotFound` as well.
#[async_trait]
pub trait Compute: Send + Sync + 'static {
    /// Launches `count` instances and returns the ids of those that were launched, which may be fewer.
    ///
    /// Idempotent by `token`: a repeated call with the same token launches nothing and returns the same instances.
    ///
    /// # Errors
    /// `NoCapacity` or `Quota` if no instance could be launched.
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>>;

    /// Starts stopped instances. Idempotent: starting a pending or running instance is `Ok`.
    ///
    /// # Errors
    /// `Conflict` for an instance in any other state.
    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>>;

    /// Terminates instances in any state. Idempotent: terminating a terminated instance is `Ok`.
    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>>;

    /// Lists every instance of the cluster, including terminated ones for some time. May lag behind other calls: an
    /// instance that is missing right after its launch may still exist.
    async fn describe(&self) -> CloudResult<Vec<Instance>>;

    /// Tells workers how long they wait for a job before they stop, instead of `worker.idle_stop`. Does nothing in a cloud that
    /// cannot tell them.
    fn limit_idle(&self, _limits: &[(InstanceId, Duration)]) {}

    /// Returns a counter that changes whenever an instance has changed, or `None` if callers must poll.
    fn changes(&self) -> Option<watch::Receiver<u64>>;
}

/// A notice that the cloud will reclaim this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// The reason that the cloud gives, for the log.
    pub reason: String,
    /// When it will do so, in milliseconds since the Unix epoch, if it says so. By the clock of the cloud.
    pub at_ms: Option<u64>,
}

/// What an instance can learn and report about itself.
#[async_trait]
pub trait Metadata: Send + Sync + 'static {
    /// Returns the id of this instance.
    async fn instance_id(&self) -> CloudResult<InstanceId>;

    /// Returns the announced interruption, if there is one.
    async fn interruption(&self) -> CloudResult<Option<Interruption>>;

    /// Reports that this instance is ready to serve. Idempotent.
    async fn ready(&self) -> CloudResult<()>;

    /// Asks the cloud to stop this instance. Idempotent.
    ///
    /// # Errors
    /// `Conflict` if the instance cannot be stopped in its current state.
    async fn stop_self(&self) -> CloudResult<()>;

    /// Returns how long this worker waits for a job before it stops, as it is told over time (`None`: as it is configured);
    /// `None` if this cloud does not tell it.
    fn idle_limit(&self) -> Option<watch::Receiver<Option<Duration>>> {
        None
    }

    /// Resolves when the cloud is gone for good and the worker must end; never resolves for a cloud that cannot
    /// disappear.
    async fn lost(&self);
}

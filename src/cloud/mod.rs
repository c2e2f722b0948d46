//! The ports: what Rollcall needs of a cloud, in its own words. `local` is the embedded cloud of one
//! machine, `aws` (a feature) is SQS, S3 and EC2, `sim` a simulated cloud for the controller alone. What a port
//! promises is written on its trait and holds for every adapter.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use crate::{
    error::{CloudError, CloudResult},
    fleet::{Depth, Instance, InstanceId, InstanceState},
};

#[cfg(feature = "aws")]
pub mod aws;
pub mod lease;
pub mod local;
mod object_key;
mod queue_limits;

// ---------------------------------------------------------------- queues

pub use queue_limits::MAX_BATCH;

/// How a queue behaves. Creating a queue that exists with another spec is [`CloudError::Invalid`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueSpec {
    pub name: String,
    /// Ordered within a message group, and deduplicated by `Message::dedup` for five minutes.
    pub fifo: bool,
    /// How long a received message stays hidden unless its receipt is extended or deleted.
    pub visibility: Duration,
    /// After this many receives a message moves to `dead_letter` instead of being delivered again.
    pub max_receives: u32,
    /// Name of the queue that takes messages received too often. `None`: they are dropped, or, on SQS, delivered until
    /// they are too old.
    pub dead_letter: Option<String>,
    /// Messages survive the death of the process. A reply queue need not: whoever waits dies too.
    pub durable: bool,
}

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// At most 768 KiB, which are 1 MiB of text where a queue carries text.
    pub body: Bytes,
    /// FIFO only: messages of one group are delivered in order, and none of them while a receive before has one in hand.
    pub group: Option<String>,
    /// FIFO only: a second message with this id within five minutes is accepted and dropped.
    pub dedup: Option<String>,
    /// Not delivered before this has passed (standard queues only, at most 15 minutes).
    pub delay: Duration,
}

/// The right to delete or extend one delivery of a message. Each delivery has its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt(pub String);

/// A message received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub body: Bytes,
    pub receipt: Receipt,
    /// How often this message has been received, this time included.
    pub receives: u32,
}

/// One queue: at least once, per-message receipts.
///
/// Batches give one result an entry, in order: a part may fail. An error of the transport is every
/// entry's error.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Accepts messages. `Ok` means durable (for a durable queue). A message may be delivered before
    /// its `send` has returned.
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>>;
    /// As [`Self::send`], but `Ok` may come before the message is durable: it is half a second later, or when a
    /// [`Self::flush`] that began after this has returned, unless it was deleted meanwhile. For a sender that promises
    /// nobody anything yet. See `docs/adr/0015-promises-decide-what-is-durable.md`.
    async fn send_buffered(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        self.send(batch).await
    }
    /// Makes durable whatever was sent through this queue before.
    async fn flush(&self) -> CloudResult<()> {
        Ok(())
    }
    /// Up to `max` (1 to 10) messages; waits up to `wait` (at most 20 s) for the first and returns as soon as
    /// there is one. Empty when there was none. Dropping the future may leave a message hidden until
    /// its visibility runs out, never lost.
    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>>;
    /// Removes the message of a delivery. Deleting twice is `Ok`. A receipt whose visibility has run
    /// out and whose message was delivered again deletes nothing and is `Conflict` (SQS says so of FIFO queues only).
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>>;
    /// Hides the message for `visibility` from now on (zero: visible at once). A receipt that has run
    /// out is `Conflict`.
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>>;
    /// Counts, without receiving.
    async fn depth(&self) -> CloudResult<Depth>;
}

/// How the queues of a cloud are best polled: a call to a queue on the other side of a network takes time and is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polling {
    /// How long a delete waits for others to share its call; zero where the queue batches calls by itself.
    pub delete_linger: Duration,
    /// How long the next poll waits for messages to share it, after one that brought fewer than it asked for.
    pub poll_linger: Duration,
    /// How long a received job may wait for a thread, so that one receive brings several.
    pub max_prefetch_delay: Duration,
    /// Whether a poll under way must be awaited rather than dropped when draining: the messages that a dropped poll is
    /// answered with stay hidden until their visibility timeout.
    pub finish_poll: bool,
}

/// All queues of a cluster.
#[async_trait]
pub trait Queues: Send + Sync + 'static {
    /// Returns how these queues are best polled.
    fn polling(&self) -> Polling;
    /// Makes the queue if it is absent. Idempotent for an equal spec.
    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>>;
    /// The queue of that name; `NotFound` if it was never made.
    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>>;
}

// ---------------------------------------------------------------- objects

/// An opaque token for one version of an object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ETag(pub String);

/// When a put may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    Always,
    /// Only if the key holds nothing.
    Absent,
    /// Only if the key holds this version.
    Match(ETag),
}

/// An object's bytes and their version.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub bytes: Bytes,
    pub etag: ETag,
}

/// An object to put.
#[derive(Clone, Debug, PartialEq)]
pub struct NewObject {
    pub bucket: String,
    pub key: String,
    pub bytes: Bytes,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    /// Bytes.
    pub size: u64,
}

/// Buckets of objects. Keys are relative paths (`a/b.jpg`): an empty segment, `.`, `..`, a leading
/// slash, a control character or a key over 1,024 bytes is `Invalid`.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Writes the whole object or nothing; durable on return. A failed precondition is `Conflict`.
    async fn put(&self, bucket: &str, key: &str, bytes: Bytes, when: Precondition) -> CloudResult<ETag>;
    /// As [`Self::put`] always, one after the other, seen by every reader at once, but durable only when a
    /// [`Self::flush`] that began later has returned: for many small objects, where a store can make many durable for the
    /// price of one. After an error the first of them may have been written.
    async fn put_buffered(&self, objects: Vec<NewObject>) -> CloudResult<()> {
        for NewObject { bucket, key, bytes } in objects {
            self.put(&bucket, &key, bytes, Precondition::Always).await?;
        }
        Ok(())
    }
    /// Makes durable whatever was put through this store before. May wait for others to share the price.
    async fn flush(&self) -> CloudResult<()> {
        Ok(())
    }
    /// `NotFound` if there is none.
    async fn get(&self, bucket: &str, key: &str) -> CloudResult<Object>;
    /// `None` while the object still has that version; `NotFound` if there is none.
    async fn get_if_changed(&self, bucket: &str, key: &str, etag: &ETag) -> CloudResult<Option<Object>>;
    /// All objects whose key starts with `prefix`, in key order. A bucket that holds nothing lists nothing.
    async fn list(&self, bucket: &str, prefix: &str) -> CloudResult<Vec<ObjectInfo>>;
    /// `Ok` whether or not there was one.
    async fn delete(&self, bucket: &str, key: &str) -> CloudResult<()>;
}

// ---------------------------------------------------------------- machines

/// The machines of one cluster, and of no other.
#[async_trait]
pub trait Compute: Send + Sync + 'static {
    /// Asks for `count` new instances; answers with those made, which may be fewer. The same token again
    /// answers with the same instances and makes none.
    async fn launch(&self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>>;
    /// Starts stopped instances. Starting a pending or running one is `Ok`; from any other state
    /// `Conflict`. One result an id.
    async fn start(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>>;
    /// Stops running instances. Stopping a stopping or stopped one is `Ok`; from any other state `Conflict`.
    async fn stop(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>>;
    /// Terminates instances in any state; terminating a terminated one is `Ok`.
    async fn terminate(&self, ids: &[InstanceId]) -> Vec<CloudResult<()>>;
    /// Every instance of the cluster, terminated ones for a while. A list may lag behind what was asked.
    async fn describe(&self) -> CloudResult<Vec<Instance>>;
    /// Changes whenever an instance has changed, where the cloud can tell; otherwise `None`, and the
    /// caller polls.
    fn changes(&self) -> Option<watch::Receiver<u64>>;
}

/// The cloud says that this instance will be taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    pub reason: String,
}

/// What an instance can ask about itself.
#[async_trait]
pub trait Metadata: Send + Sync + 'static {
    async fn instance_id(&self) -> CloudResult<InstanceId>;
    /// An announced interruption, if there is one.
    async fn interruption(&self) -> CloudResult<Option<Interruption>>;
    /// Says that this instance is ready to serve. Idempotent.
    async fn ready(&self) -> CloudResult<()>;
    /// Asks the cloud to stop this instance. `Conflict` if it may not stop now.
    async fn stop_self(&self) -> CloudResult<()>;
    /// Resolves when the cloud is gone for good, so that the worker must end (never, where it cannot be).
    async fn lost(&self);
}

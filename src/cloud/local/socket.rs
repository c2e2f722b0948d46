//! How a worker process reaches the queues and its own instance: calls over the parent's Unix socket. The socket is also
//! the lifeline between the two: see `docs/adr/0004-workers-over-a-unix-socket.md`.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tarpc::{
    client::RpcError,
    context,
    server::{BaseChannel, Channel as _},
};
use tokio::sync::watch;
use tokio_serde::formats::MessagePack;

use super::{
    broker::{Broker, POLLING},
    processes::LocalCompute,
    queue::LocalQueue,
};
use crate::cloud::{
    CloudError, CloudResult, Delivery, Depth, InstanceId, Interruption, Message, Metadata, Polling, Queue, QueueSpec,
    Queues, Receipt,
};

/// Largest frame: ten messages of 1 MiB, and then some for JSON.
const MAX_FRAME: usize = 16 << 20;
/// How long a call may take beyond the wait that it asks for.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// What a worker may ask of its parent.
#[tarpc::service]
pub trait Parent {
    /// Says who is calling. Everything else is `Denied` before.
    async fn hello(instance: InstanceId, secret: String) -> CloudResult<()>;
    async fn ready() -> CloudResult<()>;
    async fn stopping() -> CloudResult<()>;
    async fn open(queue: String) -> CloudResult<()>;
    async fn send(queue: String, batch: Vec<Message>) -> CloudResult<Vec<CloudResult<()>>>;
    async fn receive(queue: String, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>>;
    async fn delete(queue: String, batch: Vec<Receipt>) -> CloudResult<Vec<CloudResult<()>>>;
    async fn extend(queue: String, batch: Vec<(Receipt, Duration)>) -> CloudResult<Vec<CloudResult<()>>>;
    async fn depth(queue: String) -> CloudResult<Depth>;
}

// ---------------------------------------------------------------- the parent's side

/// One worker's connection.
#[derive(Clone)]
struct Connection {
    broker: Arc<Broker>,
    compute: Arc<LocalCompute>,
    instance: Arc<OnceLock<InstanceId>>,
    /// Queue and receipt of what the worker has in hand.
    held: Arc<Mutex<HashSet<(String, Receipt)>>>,
}

impl Connection {
    fn instance(&self) -> CloudResult<&InstanceId> {
        self.instance.get().ok_or_else(|| CloudError::Denied("say hello first".into()))
    }

    fn queue(&self, name: &str) -> CloudResult<Arc<LocalQueue>> {
        self.instance()?;
        self.broker.find(name)
    }

    fn held(&self) -> MutexGuard<'_, HashSet<(String, Receipt)>> {
        self.held.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The worker is gone: what it had in hand is for others.
    fn closed(&self) {
        for (queue, receipt) in self.held().drain() {
            if let Ok(queue) = self.broker.find(&queue) {
                queue.release([receipt]);
            }
        }
    }
}

impl Parent for Connection {
    async fn hello(self, _: context::Context, instance: InstanceId, secret: String) -> CloudResult<()> {
        if !self.compute.knows(&instance, &secret) {
            return Err(CloudError::Denied(format!("{instance} is no instance of this parent")));
        }
        self.instance.set(instance).map_err(|_| CloudError::Conflict("said hello twice".into()))
    }

    async fn ready(self, _: context::Context) -> CloudResult<()> {
        self.compute.ready(self.instance()?);
        Ok(())
    }

    async fn stopping(self, _: context::Context) -> CloudResult<()> {
        self.compute.stopping(self.instance()?)
    }

    async fn open(self, _: context::Context, queue: String) -> CloudResult<()> {
        self.queue(&queue).map(drop)
    }

    async fn send(self, _: context::Context, queue: String, batch: Vec<Message>) -> CloudResult<Vec<CloudResult<()>>> {
        Ok(self.queue(&queue)?.send(batch).await)
    }

    async fn receive(
        self,
        _: context::Context,
        queue: String,
        max: usize,
        wait: Duration,
    ) -> CloudResult<Vec<Delivery>> {
        let deliveries = self.queue(&queue)?.receive(max, wait).await?;
        self.held().extend(deliveries.iter().map(|d| (queue.clone(), d.receipt.clone())));
        Ok(deliveries)
    }

    async fn delete(
        self,
        _: context::Context,
        queue: String,
        batch: Vec<Receipt>,
    ) -> CloudResult<Vec<CloudResult<()>>> {
        let results = self.queue(&queue)?.delete(batch.clone()).await;
        let mut held = self.held();
        for receipt in batch {
            held.remove(&(queue.clone(), receipt));
        }
        Ok(results)
    }

    async fn extend(
        self,
        _: context::Context,
        queue: String,
        batch: Vec<(Receipt, Duration)>,
    ) -> CloudResult<Vec<CloudResult<()>>> {
        Ok(self.queue(&queue)?.extend(batch).await)
    }

    async fn depth(self, _: context::Context, queue: String) -> CloudResult<Depth> {
        self.queue(&queue)?.depth().await
    }
}

/// Serves workers on a socket of that path until the future is dropped. An old socket there is replaced.
pub async fn serve(
    path: &Path,
    broker: Arc<Broker>,
    compute: Arc<LocalCompute>,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    if path.exists() {
        fs::remove_file(path)?; // left by a parent that was killed: the journal's lock says that it is gone
    }
    let mut incoming = tarpc::serde_transport::unix::listen(path, MessagePack::default).await?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    incoming.config_mut().max_frame_length(MAX_FRAME);
    Ok(async move {
        while let Some(transport) = incoming.next().await {
            let transport = match transport {
                Ok(transport) => transport,
                Err(error) => {
                    tracing::warn!(%error, "a worker could not connect");
                    continue;
                }
            };
            let connection = Connection {
                broker: broker.clone(),
                compute: compute.clone(),
                instance: Arc::default(),
                held: Arc::default(),
            };
            tokio::spawn(async move {
                let requests = BaseChannel::with_defaults(transport).execute(connection.clone().serve());
                requests.for_each(|request| async { drop(tokio::spawn(request)) }).await;
                connection.closed();
            });
        }
    })
}

// ---------------------------------------------------------------- the worker's side

/// The parent, as a worker sees it.
pub struct SocketCloud {
    /// The parent's queues.
    pub queues: Arc<dyn Queues>,
    /// What the instance can ask about itself.
    pub metadata: Arc<dyn Metadata>,
}

impl SocketCloud {
    /// Connects as `instance`, with the secret that its process was started with.
    pub async fn connect(path: &Path, instance: InstanceId, secret: String) -> anyhow::Result<Self> {
        let mut connect = tarpc::serde_transport::unix::connect(path, MessagePack::default);
        connect.config_mut().max_frame_length(MAX_FRAME);
        let transport = connect.await.map_err(|e| anyhow::anyhow!("no parent at {}: {e}", path.display()))?;
        let tarpc::client::NewClient { client, dispatch } = ParentClient::new(Default::default(), transport);
        let (alive, lost) = watch::channel(());
        tokio::spawn(async move {
            let _alive = alive; // dropped with the connection
            if let Err(error) = dispatch.await {
                tracing::debug!(%error, "connection to the parent ended");
            }
        });
        flatten(client.hello(within(Duration::ZERO), instance.clone(), secret).await)?;
        Ok(Self {
            queues: Arc::new(SocketQueues { client: client.clone() }),
            metadata: Arc::new(SocketMetadata { client, instance, lost }),
        })
    }
}

/// A call's deadline: tarpc's own of ten seconds is shorter than a long poll.
#[expect(clippy::disallowed_methods, reason = "tarpc's deadlines are of the system's clock")]
fn within(wait: Duration) -> context::Context {
    let mut context = context::current();
    context.deadline = Instant::now() + wait + CALL_TIMEOUT;
    context
}

fn flatten<T>(result: Result<CloudResult<T>, RpcError>) -> CloudResult<T> {
    result.unwrap_or_else(|e| Err(CloudError::Unavailable(format!("parent: {e}"))))
}

/// One result an entry, also when the call as a whole failed.
fn each<T: Clone>(n: usize, result: Result<CloudResult<Vec<CloudResult<T>>>, RpcError>) -> Vec<CloudResult<T>> {
    flatten(result).unwrap_or_else(|error| vec![Err(error); n])
}

struct SocketQueues {
    client: ParentClient,
}

#[async_trait]
impl Queues for SocketQueues {
    fn polling(&self) -> Polling {
        POLLING
    }

    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        Err(CloudError::Denied(format!("queue {}: workers make no queues", spec.name)))
    }

    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        flatten(self.client.open(within(Duration::ZERO), name.to_owned()).await)?;
        Ok(Arc::new(SocketQueue { client: self.client.clone(), name: name.to_owned() }))
    }
}

struct SocketQueue {
    client: ParentClient,
    name: String,
}

#[async_trait]
impl Queue for SocketQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        each(n, self.client.send(within(Duration::ZERO), self.name.clone(), batch).await)
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        flatten(self.client.receive(within(wait), self.name.clone(), max, wait).await)
    }

    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        each(n, self.client.delete(within(Duration::ZERO), self.name.clone(), batch).await)
    }

    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        each(n, self.client.extend(within(Duration::ZERO), self.name.clone(), batch).await)
    }

    async fn depth(&self) -> CloudResult<Depth> {
        flatten(self.client.depth(within(Duration::ZERO), self.name.clone()).await)
    }
}

struct SocketMetadata {
    client: ParentClient,
    instance: InstanceId,
    lost: watch::Receiver<()>,
}

#[async_trait]
impl Metadata for SocketMetadata {
    async fn instance_id(&self) -> CloudResult<InstanceId> {
        Ok(self.instance.clone())
    }

    async fn interruption(&self) -> CloudResult<Option<Interruption>> {
        Ok(None) // the parent sends SIGTERM instead
    }

    async fn ready(&self) -> CloudResult<()> {
        flatten(self.client.ready(within(Duration::ZERO)).await)
    }

    async fn stop_self(&self) -> CloudResult<()> {
        flatten(self.client.stopping(within(Duration::ZERO)).await)
    }

    async fn lost(&self) {
        let mut lost = self.lost.clone();
        while lost.changed().await.is_ok() {}
    }
}

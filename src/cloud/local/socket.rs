//! The Unix socket through which a worker process reaches the queues and its own instance in the parent process.
//!
//! The connection also lets each side notice when the other has died: see
//! `docs/adr/0004-workers-over-a-unix-socket.md`.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant},
};

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use tarpc::{
    ClientMessage, Response,
    client::RpcError,
    context,
    server::{BaseChannel, Channel as _},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_serde::formats::MessagePack;

use super::{
    broker::{Broker, POLLING},
    processes::{HEARTBEAT, LocalCompute},
    queue::LocalQueue,
};
use crate::cloud::{
    CloudError, CloudResult, Delivery, Depth, InstanceId, Interruption, Message, Metadata, Polling, Queue, QueueSpec,
    Queues, Receipt,
};

/// Largest frame in bytes: ten messages of the largest size, with room to spare.
const MAX_FRAME: usize = 16 << 20;
/// How long a call may take beyond the wait that it requests.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// The calls of a worker to its parent. They have the contracts of [`Queue`], [`Queues`] and [`Metadata`].
#[tarpc::service]
trait Parent {
    /// Identifies the caller. Until then, all other calls are `Denied`.
    async fn hello(instance: InstanceId, secret: String) -> CloudResult<()>;
    async fn ready() -> CloudResult<()>;
    /// Returns how long the worker waits for a job before it stops, if the controller decides on it.
    async fn heartbeat() -> CloudResult<Option<Duration>>;
    async fn stopping() -> CloudResult<()>;
    async fn open(queue: String) -> CloudResult<()>;
    async fn send(queue: String, batch: Vec<Message>) -> CloudResult<Vec<CloudResult<()>>>;
    async fn receive(queue: String, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>>;
    async fn delete(queue: String, batch: Vec<Receipt>) -> CloudResult<Vec<CloudResult<()>>>;
    async fn extend(queue: String, batch: Vec<(Receipt, Duration)>) -> CloudResult<Vec<CloudResult<()>>>;
    async fn depth(queue: String) -> CloudResult<Depth>;
}

// ---------------------------------------------------------------- the parent's side

/// Deliveries by queue and receipt.
type InFlight = HashSet<(String, Receipt)>;

/// One worker's connection.
#[derive(Clone)]
struct Connection {
    broker: Arc<Broker>,
    compute: Arc<LocalCompute>,
    instance: Arc<OnceLock<InstanceId>>,
    /// The messages that the worker has in flight; `None` once the connection is closed.
    in_flight: Arc<Mutex<Option<InFlight>>>,
}

impl Connection {
    fn new(broker: Arc<Broker>, compute: Arc<LocalCompute>) -> Self {
        let in_flight = Arc::new(Mutex::new(Some(HashSet::new())));
        Self { broker, compute, instance: Arc::default(), in_flight }
    }

    /// Serves the worker until it closes the connection.
    async fn run<T>(self, transport: T)
    where
        T: tarpc::Transport<Response<ParentResponse>, ClientMessage<ParentRequest>> + 'static,
    {
        let requests = BaseChannel::with_defaults(transport).execute(self.clone().serve());
        let _closing = Closing(self);
        requests.for_each(|request| async { drop(tokio::spawn(request)) }).await;
    }

    fn instance(&self) -> CloudResult<&InstanceId> {
        self.instance.get().ok_or_else(|| CloudError::Denied("say hello first".into()))
    }

    fn queue(&self, name: &str) -> CloudResult<Arc<LocalQueue>> {
        self.instance()?;
        self.broker.find(name)
    }

    fn in_flight(&self) -> MutexGuard<'_, Option<InFlight>> {
        self.in_flight.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Forgets deliveries that are no longer in flight.
    fn done_with(&self, queue: &str, receipts: Vec<Receipt>) {
        if let Some(in_flight) = &mut *self.in_flight() {
            for receipt in receipts {
                in_flight.remove(&(queue.to_owned(), receipt));
            }
        }
    }

    /// Returns the messages that the worker had in flight to their queues, because its connection has closed.
    fn closed(&self) {
        for (queue, receipt) in self.in_flight().take().into_iter().flatten() {
            if let Ok(queue) = self.broker.find(&queue) {
                queue.release([receipt]);
            }
        }
    }
}

/// Closes the connection when it is dropped, whatever ends it: the library panics on deadlines in the far future.
struct Closing(Connection);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.closed();
    }
}

impl Parent for Connection {
    async fn hello(self, _: context::Context, instance: InstanceId, secret: String) -> CloudResult<()> {
        if !self.compute.knows(&instance, &secret) {
            return Err(CloudError::Denied(format!("{instance} is not an instance of this parent")));
        }
        self.instance.set(instance).map_err(|_| CloudError::Conflict("said hello twice".into()))
    }

    async fn ready(self, _: context::Context) -> CloudResult<()> {
        self.compute.ready(self.instance()?);
        Ok(())
    }

    async fn heartbeat(self, _: context::Context) -> CloudResult<Option<Duration>> {
        Ok(self.compute.heartbeat(self.instance()?))
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
        let from = self.queue(&queue)?;
        let deliveries = from.receive(max, wait).await?;
        match &mut *self.in_flight() {
            Some(in_flight) => in_flight.extend(deliveries.iter().map(|d| (queue.clone(), d.receipt.clone()))),
            None => from.release(deliveries.iter().map(|d| d.receipt.clone())), // closed while this call ran
        }
        Ok(deliveries)
    }

    async fn delete(
        self,
        _: context::Context,
        queue: String,
        batch: Vec<Receipt>,
    ) -> CloudResult<Vec<CloudResult<()>>> {
        let results = self.queue(&queue)?.delete(batch.clone()).await;
        self.done_with(&queue, batch);
        Ok(results)
    }

    async fn extend(
        self,
        _: context::Context,
        queue: String,
        batch: Vec<(Receipt, Duration)>,
    ) -> CloudResult<Vec<CloudResult<()>>> {
        let returned = batch.iter().filter(|(_, visibility)| visibility.is_zero()).map(|(receipt, _)| receipt.clone());
        let returned: Vec<Receipt> = returned.collect();
        let results = self.queue(&queue)?.extend(batch).await;
        self.done_with(&queue, returned);
        Ok(results)
    }

    async fn depth(self, _: context::Context, queue: String) -> CloudResult<Depth> {
        self.queue(&queue)?.depth().await
    }
}

/// Opens a socket at that path, readable by its owner only, and returns a future that serves workers until it is
/// dropped. Replaces a socket that an earlier parent has left behind.
///
/// # Errors
/// The socket cannot be created.
pub async fn serve(
    path: &Path,
    broker: Arc<Broker>,
    compute: Arc<LocalCompute>,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    if path.exists() {
        fs::remove_file(path)?; // its parent has been killed: this one holds the journal
    }
    let mut incoming = tarpc::serde_transport::unix::listen(path, MessagePack::default).await?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    incoming.config_mut().max_frame_length(MAX_FRAME);
    let heartbeats = compute.clone();
    let accept = async move {
        while let Some(transport) = incoming.next().await {
            let transport = match transport {
                Ok(transport) => transport,
                Err(error) => {
                    tracing::warn!(%error, "a worker could not connect");
                    continue;
                }
            };
            tokio::spawn(Connection::new(broker.clone(), compute.clone()).run(transport));
        }
    };
    Ok(async move {
        tokio::select! {
            () = accept => {}
            () = heartbeats.watch_heartbeats() => {}
        }
    })
}

// ---------------------------------------------------------------- the worker's side

/// The ports of a worker, which are calls to its parent.
pub struct SocketCloud {
    /// The parent's queues. Only the parent creates queues.
    pub queues: Arc<dyn Queues>,
    /// The worker's own instance.
    pub metadata: Arc<dyn Metadata>,
}

impl SocketCloud {
    /// Connects as `instance`, with the secret that its process was started with. The connection is closed when all
    /// handles are dropped.
    ///
    /// # Errors
    /// There is no parent at that path, or it does not know the instance and the secret.
    pub async fn connect(path: &Path, instance: InstanceId, secret: String) -> anyhow::Result<Self> {
        let mut connect = tarpc::serde_transport::unix::connect(path, MessagePack::default);
        connect.config_mut().max_frame_length(MAX_FRAME);
        let transport = connect.await.map_err(|e| anyhow::anyhow!("no parent at {}: {e}", path.display()))?;
        let tarpc::client::NewClient { client, dispatch } = ParentClient::new(Default::default(), transport);
        let (alive, lost) = watch::channel(());
        tokio::spawn(async move {
            let _alive = alive; // dropped when the connection ends
            if let Err(error) = dispatch.await {
                tracing::debug!(%error, "connection to the parent ended");
            }
        });
        flatten(client.hello(within(Duration::ZERO), instance.clone(), secret).await)?;
        let mut heartbeats = JoinSet::new();
        let (limits, idle_limit) = watch::channel(None);
        heartbeats.spawn(send_heartbeats(client.clone(), limits));
        let parent = Arc::new(ParentHandle { client, _heartbeats: heartbeats });
        Ok(Self {
            queues: Arc::new(SocketQueues { parent: parent.clone() }),
            metadata: Arc::new(SocketMetadata { parent, instance, lost, idle_limit }),
        })
    }
}

/// A connected client, which sends heartbeats until it is dropped.
struct ParentHandle {
    client: ParentClient,
    _heartbeats: JoinSet<()>,
}

/// Sends heartbeats. Their answers tell the idle limit; the last one holds until there is another.
async fn send_heartbeats(client: ParentClient, limits: watch::Sender<Option<Duration>>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        match client.heartbeat(within(Duration::ZERO)).await {
            Err(RpcError::Shutdown) => return,
            Ok(Ok(Some(limit))) => {
                limits.send_if_modified(|known| known.replace(limit) != Some(limit));
            }
            _ => {}
        }
    }
}

/// Creates the context of a call: tarpc's own deadline of ten seconds is shorter than a long poll.
#[expect(clippy::disallowed_methods, reason = "tarpc's deadlines use this clock")]
fn within(wait: Duration) -> context::Context {
    let mut context = context::current();
    context.deadline = Instant::now() + wait + CALL_TIMEOUT;
    context
}

fn flatten<T>(result: Result<CloudResult<T>, RpcError>) -> CloudResult<T> {
    result.unwrap_or_else(|e| Err(CloudError::Unavailable(format!("parent: {e}"))))
}

/// Returns one result per entry, even if the call as a whole has failed.
fn each<T: Clone>(n: usize, result: Result<CloudResult<Vec<CloudResult<T>>>, RpcError>) -> Vec<CloudResult<T>> {
    flatten(result).unwrap_or_else(|error| vec![Err(error); n])
}

struct SocketQueues {
    parent: Arc<ParentHandle>,
}

#[async_trait]
impl Queues for SocketQueues {
    fn polling(&self) -> Polling {
        POLLING
    }

    async fn create(&self, spec: QueueSpec) -> CloudResult<Arc<dyn Queue>> {
        Err(CloudError::Denied(format!("queue {}: workers create no queues", spec.name)))
    }

    async fn open(&self, name: &str) -> CloudResult<Arc<dyn Queue>> {
        flatten(self.parent.client.open(within(Duration::ZERO), name.to_owned()).await)?;
        Ok(Arc::new(SocketQueue { parent: self.parent.clone(), name: name.to_owned() }))
    }
}

struct SocketQueue {
    parent: Arc<ParentHandle>,
    name: String,
}

#[async_trait]
impl Queue for SocketQueue {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        each(n, self.parent.client.send(within(Duration::ZERO), self.name.clone(), batch).await)
    }

    async fn receive(&self, max: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        flatten(self.parent.client.receive(within(wait), self.name.clone(), max, wait).await)
    }

    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        each(n, self.parent.client.delete(within(Duration::ZERO), self.name.clone(), batch).await)
    }

    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        let n = batch.len();
        each(n, self.parent.client.extend(within(Duration::ZERO), self.name.clone(), batch).await)
    }

    async fn depth(&self) -> CloudResult<Depth> {
        flatten(self.parent.client.depth(within(Duration::ZERO), self.name.clone()).await)
    }
}

struct SocketMetadata {
    parent: Arc<ParentHandle>,
    instance: InstanceId,
    lost: watch::Receiver<()>,
    idle_limit: watch::Receiver<Option<Duration>>,
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
        flatten(self.parent.client.ready(within(Duration::ZERO)).await)
    }

    async fn stop_self(&self) -> CloudResult<()> {
        flatten(self.parent.client.stopping(within(Duration::ZERO)).await)
    }

    fn idle_limit(&self) -> Option<watch::Receiver<Option<Duration>>> {
        Some(self.idle_limit.clone())
    }

    async fn lost(&self) {
        let mut lost = self.lost.clone();
        while lost.changed().await.is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::{Compute as _, local::processes::Launcher};

    #[tokio::test]
    async fn every_call_before_hello_is_denied() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("socket");
        let broker = Arc::new(Broker::open(folder.path()).expect("a broker"));
        let launcher = Launcher { program: "/bin/false".into(), args: vec![], name_prefix: String::new() };
        let compute = LocalCompute::new(launcher);
        let id = compute.launch("t", 1).await.expect("launched").remove(0);
        let server = serve(&path, broker, compute).await.expect("a socket");
        let server = tokio::spawn(server);
        let transport = tarpc::serde_transport::unix::connect(&path, MessagePack::default).await.expect("connected");
        let client = ParentClient::new(Default::default(), transport).spawn();

        fn denied<T>(result: Result<CloudResult<T>, RpcError>) -> bool {
            matches!(result, Ok(Err(CloudError::Denied(_))))
        }
        let (context, queue) = (|| within(Duration::ZERO), || "jobs".to_owned());
        assert!(denied(client.hello(context(), id, "wrong".into()).await), "and nothing after a wrong secret");
        assert!(denied(client.ready(context()).await));
        assert!(denied(client.heartbeat(context()).await));
        assert!(denied(client.stopping(context()).await));
        assert!(denied(client.open(context(), queue()).await));
        assert!(denied(client.send(context(), queue(), vec![Message::default()]).await));
        assert!(denied(client.receive(context(), queue(), 1, Duration::ZERO).await));
        assert!(denied(client.delete(context(), queue(), vec![Receipt("1-1-1".into())]).await));
        assert!(denied(client.extend(context(), queue(), vec![(Receipt("1-1-1".into()), Duration::ZERO)]).await));
        assert!(denied(client.depth(context(), queue()).await));
        server.abort();
    }
}

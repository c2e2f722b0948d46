//! What the embedded queue remembers across restarts of its process.

use std::{sync::Arc, time::Duration};

use rollcall::cloud::{CloudError, Delivery, Depth, Message, Queue, QueueSpec, Queues, local::Broker};
use tempfile::TempDir;

/// Longest time for anything that is expected to happen.
const LONG: Duration = Duration::from_secs(20);
const MAX_RECEIVES: u32 = 3;

/// The queues of one process, which ends when they are dropped.
struct Process {
    jobs: Arc<dyn Queue>,
    dead: Arc<dyn Queue>,
}

impl Process {
    async fn start(folder: &TempDir, fifo: bool) -> Self {
        let broker = Broker::open(folder.path()).expect("the broker opens");
        let dead = QueueSpec {
            name: "dead".into(),
            fifo,
            visibility: Duration::from_secs(3600),
            max_receives: 1000,
            dead_letter: None,
            durable: true,
        };
        let jobs = QueueSpec {
            name: "jobs".into(),
            max_receives: MAX_RECEIVES,
            dead_letter: Some(dead.name.clone()),
            ..dead.clone()
        };
        let dead = broker.create(dead).await.expect("a queue");
        Self { jobs: broker.create(jobs).await.expect("a queue"), dead }
    }

    async fn send(&self, messages: impl IntoIterator<Item = Message>) {
        for result in self.jobs.send(messages.into_iter().collect()).await {
            result.expect("sent");
        }
    }

    /// Receives the next job, which must be visible now.
    async fn receive(&self) -> Delivery {
        self.jobs.receive(1, Duration::ZERO).await.expect("a receive").pop().expect("a message")
    }

    async fn return_to_queue(&self, delivery: Delivery) {
        assert_eq!(self.jobs.extend(vec![(delivery.receipt, Duration::ZERO)]).await, [Ok(())]);
    }

    async fn nothing_is_visible(&self) {
        assert_eq!(self.jobs.receive(10, Duration::ZERO).await, Ok(vec![]));
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn message(fifo: bool, body: &str) -> Message {
    let id = fifo.then(|| body.to_owned());
    Message { body: body.to_owned().into(), group: id.clone(), dedup: id, ..Message::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_received_too_often_is_dead_lettered_across_restarts() {
    for fifo in [false, true] {
        let folder = folder();
        let process = Process::start(&folder, fifo).await;
        process.send([message(fifo, "poison")]).await;
        for receives in 1..MAX_RECEIVES {
            let delivery = process.receive().await;
            assert_eq!(delivery.receives, receives);
            process.return_to_queue(delivery).await;
        }
        drop(process);

        let process = Process::start(&folder, fifo).await;
        let delivery = process.receive().await;
        assert_eq!(delivery.receives, MAX_RECEIVES, "earlier receives count");
        process.return_to_queue(delivery).await;
        process.nothing_is_visible().await;
        assert_eq!(process.jobs.depth().await, Ok(Depth::default()));
        assert_eq!(process.dead.depth().await.expect("a depth").visible, 1);
        drop(process);

        let process = Process::start(&folder, fifo).await;
        assert_eq!(process.jobs.depth().await, Ok(Depth::default()), "it has left its queue for good");
        let dead = process.dead.receive(10, LONG).await.expect("a receive");
        assert_eq!(dead.iter().map(|d| &d.body[..]).collect::<Vec<_>>(), [b"poison"]);
        assert_eq!(dead[0].receives, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_makes_messages_in_flight_visible_and_old_receipts_invalid() {
    let folder = folder();
    let process = Process::start(&folder, true).await;
    process.send(["1", "2"].map(|body| Message { group: Some("g".into()), ..message(true, body) })).await;
    let before = process.receive().await;
    drop(process);

    let process = Process::start(&folder, true).await;
    let after = process.receive().await;
    assert_eq!(after.body, "1", "the group keeps its order");
    let late = process.jobs.delete(vec![before.receipt]).await;
    assert!(matches!(late[..], [Err(CloudError::Conflict(_))]), "{late:?}");
    process.nothing_is_visible().await;
    assert_eq!(process.jobs.delete(vec![after.receipt]).await, [Ok(())]);
    drop(process);

    let process = Process::start(&folder, true).await;
    assert_eq!(process.receive().await.body, "2");
    process.nothing_is_visible().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_is_still_delayed_after_a_restart() {
    let folder = folder();
    let process = Process::start(&folder, false).await;
    process.send([Message { delay: Duration::from_secs(600), ..message(false, "later") }]).await;
    drop(process);
    let process = Process::start(&folder, false).await;
    process.nothing_is_visible().await;
    assert_eq!(process.jobs.depth().await, Ok(Depth { delayed: 1, ..Depth::default() }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_of_a_stored_message_is_dropped_after_a_restart() {
    let folder = folder();
    let process = Process::start(&folder, true).await;
    process.send([message(true, "once")]).await;
    drop(process);
    let process = Process::start(&folder, true).await;
    process.send([message(true, "once")]).await;
    assert_eq!(process.jobs.depth().await.expect("a depth").total(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_the_queue_makes_buffered_messages_durable_unless_deleted() {
    let folder = folder();
    let process = Process::start(&folder, false).await;
    for body in ["deleted", "kept"] {
        assert_eq!(process.jobs.send_buffered(vec![message(false, body)]).await, [Ok(())]);
    }
    let delivery = process.receive().await;
    assert_eq!(delivery.body, "deleted");
    assert_eq!(process.jobs.delete(vec![delivery.receipt]).await, [Ok(())]);
    drop(process);
    let process = Process::start(&folder, false).await;
    assert_eq!(process.receive().await.body, "kept");
    process.nothing_is_visible().await;
}

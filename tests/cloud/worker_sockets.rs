//! What a parent process guarantees to the workers on its socket, and what happens to their jobs when a connection
//! closes.

use std::{sync::Arc, time::Duration};

use rollcall::cloud::{
    CloudError, InstanceId, Message, Queue, QueueSpec, Queues,
    local::{Broker, SocketCloud},
};
use tokio::time::timeout;

use crate::worker_socket::Parent;

/// Timeout of every expected event; far shorter than the visibility timeout in [`queue`].
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait of a receive.
const WAIT: Duration = Duration::from_secs(20);
const QUEUE: &str = "jobs";

async fn queue(broker: &Arc<Broker>) -> Arc<dyn Queue> {
    let spec = QueueSpec {
        name: QUEUE.into(),
        fifo: false,
        visibility: Duration::from_secs(3600),
        max_receives: 10,
        dead_letter: None,
        durable: true,
    };
    broker.create(spec).await.expect("a queue")
}

async fn send(queue: &dyn Queue, body: &str) {
    let message = Message { body: body.to_owned().into(), ..Message::default() };
    assert_eq!(queue.send(vec![message]).await, [Ok(())]);
}

async fn open(worker: &SocketCloud) -> Arc<dyn Queue> {
    worker.queues.open(QUEUE).await.expect("the queue")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_socket_makes_its_jobs_visible_at_once() {
    let parent = Parent::start().await;
    let jobs = queue(&parent.broker).await;
    let (dying, other) = (parent.connect().await, parent.connect().await);
    for body in ["done", "in flight", "in flight"] {
        send(&*jobs, body).await;
    }
    let received = open(&dying).await.receive(3, WAIT).await.expect("a receive");
    assert_eq!(received.len(), 3);
    let done = received.iter().find(|d| d.body == "done").expect("it was sent").receipt.clone();
    assert_eq!(open(&dying).await.delete(vec![done]).await, [Ok(())]);

    let waiting = {
        let queue = open(&other).await;
        tokio::spawn(async move { queue.receive(1, WAIT).await })
    };
    assert_eq!(jobs.depth().await.expect("a depth").in_flight, 2);
    drop(dying);
    let mut again =
        timeout(TIMEOUT, waiting).await.expect("a waiting worker is woken").expect("no panic").expect("received");
    again.extend(open(&other).await.receive(1, WAIT).await.expect("a receive"));
    let seen: Vec<_> = again.iter().map(|d| (&d.body[..], d.receives)).collect();
    assert_eq!(seen, [(&b"in flight"[..], 2); 2]);
    assert_eq!(jobs.depth().await.expect("a depth").total(), 2, "the deleted job does not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_from_a_closed_socket_takes_no_message() {
    let parent = Parent::start().await;
    let jobs = queue(&parent.broker).await;
    let other = parent.connect().await;
    for n in 0..5 {
        let dying = parent.connect().await;
        let queue = open(&dying).await;
        let poll = tokio::spawn(async move { queue.receive(1, WAIT).await });
        assert_eq!(open(&dying).await.receive(1, Duration::ZERO).await, Ok(vec![])); // the poll has reached the parent
        poll.abort();
        drop(dying);
        send(&*jobs, &n.to_string()).await;
        let delivery = open(&other).await.receive(1, WAIT).await.expect("a receive").pop().expect("a message");
        assert_eq!(delivery.body, n.to_string());
        assert_eq!(open(&other).await.delete(vec![delivery.receipt]).await, [Ok(())]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closing_socket_leaves_a_returned_message_to_its_next_receiver() {
    let parent = Parent::start().await;
    let jobs = queue(&parent.broker).await;
    let (dying, other) = (parent.connect().await, parent.connect().await);
    send(&*jobs, "job").await;
    let first = open(&dying).await.receive(1, WAIT).await.expect("a receive").remove(0);
    assert_eq!(open(&dying).await.extend(vec![(first.receipt, Duration::ZERO)]).await, [Ok(())]);
    let second = open(&other).await.receive(1, WAIT).await.expect("a receive").remove(0);
    drop(dying);
    assert_eq!(jobs.receive(1, Duration::from_millis(300)).await, Ok(vec![]), "another worker has it");
    assert_eq!(open(&other).await.delete(vec![second.receipt]).await, [Ok(())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_the_secret_of_its_instance_is_denied() {
    let parent = Parent::start().await;
    let (first, second) = (parent.instance("first").await, parent.instance("second").await);
    assert_ne!(first.1, second.1, "each instance has its own secret");
    let unknown = InstanceId("i-0123456789abcdef0".into());
    for (id, secret) in [
        (first.0.clone(), String::new()),
        (first.0.clone(), second.1),
        (first.0.clone(), first.1[..31].to_owned()),
        (second.0, first.1.clone()),
        (unknown, first.1.clone()),
    ] {
        let error = parent.connect_as(id, secret).await.err().expect("denied");
        assert!(matches!(error.downcast_ref(), Some(CloudError::Denied(_))), "{error:?}");
    }
    parent.connect_as(first.0, first.1).await.expect("its own secret");
}

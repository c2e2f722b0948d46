//! Every queue keeps the contract of `rollcall::cloud::Queue`: the broker in process, and as workers reach it.

#[path = "contract/queue.rs"]
mod contract;
#[path = "support/worker_socket.rs"]
mod worker_socket;

use std::{sync::Arc, time::Duration};

use contract::World;
use rollcall::cloud::local::Broker;

/// Milliseconds are exact here; this leaves a busy machine time between two calls.
const TICK: Duration = Duration::from_millis(500);

async fn broker() -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = Arc::new(Broker::open(folder.path()).expect("a new broker"));
    World { queues: broker.clone(), maker: broker, tick: TICK, tells_late_deletes: true, _keep: Box::new(folder) }
}

async fn socket() -> World {
    let parent = worker_socket::Parent::start().await;
    let queues = parent.connect().await.queues;
    World { queues, maker: parent.broker.clone(), tick: TICK, tells_late_deletes: true, _keep: Box::new(parent) }
}

queue_contract!(in_process, crate::broker);
queue_contract!(over_the_socket, crate::socket);

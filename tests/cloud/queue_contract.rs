//! Every queue keeps the contract of `rollcall::cloud::Queue`: the broker in process, the broker over the socket, and
//! SQS.

use std::{sync::Arc, time::Duration};

use crate::contract::queue::World;
use rollcall::cloud::local::Broker;

/// Timers are exact to the millisecond; this leaves a busy machine time between two calls.
const TICK: Duration = Duration::from_millis(1_500);

async fn broker() -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broker = Arc::new(Broker::open(folder.path()).expect("a new broker"));
    World { queues: broker.clone(), creator: broker, tick: TICK, reports_late_receipts: true, _keep: Box::new(folder) }
}

async fn socket() -> World {
    let parent = crate::worker_socket::Parent::start().await;
    let queues = parent.connect().await.queues;
    World { queues, creator: parent.broker.clone(), tick: TICK, reports_late_receipts: true, _keep: Box::new(parent) }
}

#[cfg(feature = "aws")]
async fn sqs() -> World {
    use rollcall::cloud::aws::{SqsQueues, sqs_client};
    let client =
        sqs_client(&rollcall_testing::emulators::sdk(&rollcall_testing::emulators::shared_ministack().await.url).await);
    let queues = Arc::new(SqsQueues::new(client, Duration::from_millis(5), "contract"));
    // The emulator deletes silently where AWS reports that the receipt has expired, and the other way round.
    let reports_late_receipts = false;
    World {
        queues: queues.clone(),
        creator: queues,
        // All cases share one emulator.
        tick: Duration::from_secs(3),
        reports_late_receipts,
        _keep: Box::new(()),
    }
}

crate::queue_contract!(each, in_process, crate::queue_contract::broker);
crate::queue_contract!(each, over_the_socket, crate::queue_contract::socket);
#[cfg(feature = "aws")]
crate::queue_contract!(concurrently, on_sqs, crate::queue_contract::sqs);

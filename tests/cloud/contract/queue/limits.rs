//! Creating queues, and calls beyond the limits.

use std::time::Duration;

use rollcall::cloud::{CloudError, Message, QueueSpec};

use super::{World, grouped, one, plain, send};

pub async fn creating_a_queue_again_opens_it_and_refuses_other_settings(world: &World) {
    let spec = world.spec(false);
    let queue = world.create(spec.clone()).await;
    send(&*queue, [plain("kept")]).await;
    let again = world.create(spec.clone()).await;
    assert_eq!(one(&*again).await.body, "kept");
    let other = QueueSpec { visibility: Duration::from_secs(7), ..spec };
    let refused = world.creator.create(other).await.err();
    assert!(matches!(refused, Some(CloudError::Invalid(_))), "{refused:?}");
}

pub async fn a_queue_that_was_never_created_is_not_found(world: &World) {
    let missing = world.queues.open("contract-nobody-made-this").await.err();
    assert!(matches!(missing, Some(CloudError::NotFound(_))), "{missing:?}");
}

pub async fn calls_beyond_the_limits_are_refused(world: &World) {
    let (standard, fifo) = (world.standard().await, world.fifo().await);
    let delay = Duration::from_secs(60);
    for (queue, message) in [
        (&standard, grouped("g", "a group in a standard queue")),
        (&standard, Message { delay: Duration::from_secs(16 * 60), ..plain("too late") }),
        (&fifo, plain("no group")),
        (&fifo, Message { delay, ..grouped("g", "a delay in a FIFO queue") }),
    ] {
        let results = queue.send(vec![message.clone()]).await;
        assert!(matches!(results[..], [Err(CloudError::Invalid(_))]), "{:?}: {results:?}", message.body);
    }
    send(&*standard, [plain("hidden too long")]).await;
    let receipt = one(&*standard).await.receipt;
    let results = standard.extend(vec![(receipt, Duration::from_secs(13 * 3600))]).await;
    assert!(matches!(results[..], [Err(CloudError::Invalid(_))]), "{results:?}");
    let spec = QueueSpec { visibility: Duration::from_secs(13 * 3600), ..world.spec(false) };
    assert!(matches!(world.creator.create(spec).await.err(), Some(CloudError::Invalid(_))));
    for (max, wait) in [(0, Duration::ZERO), (11, Duration::ZERO), (1, Duration::from_secs(21))] {
        let result = standard.receive(max, wait).await;
        assert!(matches!(result, Err(CloudError::Invalid(_))), "{max}, {wait:?}: {result:?}");
    }
}

//! Long polls and delays.

use std::time::Duration;

use rollcall::cloud::Message;

use super::{LONG, World, delete, nothing, one, plain, send};

pub async fn a_long_poll_returns_when_a_message_arrives(world: &World) {
    let queue = world.standard().await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(1, LONG).await }
    });
    nothing(&*queue, Duration::ZERO).await; // by now, the other receive has begun
    send(&*queue, [plain("at last")]).await;
    let deliveries = tokio::time::timeout(LONG / 2, waiting).await.expect("it wakes long before its wait is over");
    assert_eq!(deliveries.expect("no panic").expect("a receive")[0].body, "at last");
}

pub async fn a_cancelled_long_poll_loses_nothing(world: &World) {
    let queue = world.short_visibility(false).await;
    for n in 0..5 {
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.receive(1, LONG).await }
        });
        nothing(&*queue, Duration::ZERO).await;
        waiting.abort();
        let body = format!("message {n}");
        send(&*queue, [plain(&body)]).await;
        let delivery = one(&*queue).await;
        assert_eq!(delivery.body, body);
        delete(&*queue, &delivery).await;
    }
}

pub async fn a_delayed_message_is_delivered_after_its_delay(world: &World) {
    let queue = world.standard().await;
    let delay = 2 * world.tick;
    send(&*queue, [Message { delay, ..plain("later") }, plain("now")]).await;
    let first = one(&*queue).await;
    assert_eq!(first.body, "now");
    assert_eq!(queue.depth().await.expect("a depth").total(), 2, "a delayed message counts");
    assert_eq!(one(&*queue).await.body, "later");
}

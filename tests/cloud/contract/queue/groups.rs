//! Message groups and deduplication of FIFO queues.

use std::time::Duration;

use super::{LONG, World, alone, delete, grouped, one, send, text};

pub async fn a_group_is_delivered_in_order_and_one_at_a_time(world: &World) {
    let queue = world.fifo().await;
    send(&*queue, ["1", "2", "3"].map(|body| grouped("g", body))).await;
    for expected in ["1", "2", "3"] {
        let delivery = one(&*queue).await;
        assert_eq!((&*delivery.body, delivery.group.as_deref()), (expected.as_bytes(), Some("g")));
        assert_eq!(queue.receive(1, Duration::ZERO).await, Ok(vec![]), "the group waits for {expected}");
        delete(&*queue, &delivery).await;
    }
}

pub async fn a_returned_message_is_still_the_first_of_its_group(world: &World) {
    let queue = world.fifo().await;
    send(&*queue, ["1", "2"].map(|body| grouped("g", body))).await;
    let delivery = one(&*queue).await;
    assert_eq!(queue.extend(vec![(delivery.receipt, Duration::ZERO)]).await, [Ok(())]);
    assert_eq!(one(&*queue).await.body, "1");
}

pub async fn groups_do_not_wait_for_one_another(world: &World) {
    let queue = world.fifo().await;
    send(&*queue, (0..20).map(|n| alone(true, &n.to_string()))).await;
    let mut held = Vec::new();
    while held.len() < 20 {
        let deliveries = queue.receive(10, LONG).await.expect("a receive");
        assert!(!deliveries.is_empty(), "only {} came while they were held", held.len());
        held.extend(deliveries.into_iter().map(text));
    }
    held.sort();
    held.dedup();
    assert_eq!(held.len(), 20);
}

pub async fn a_delete_wakes_a_receiver_that_waits_for_the_group(world: &World) {
    let queue = world.fifo().await;
    send(&*queue, ["1", "2"].map(|body| grouped("g", body))).await;
    let first = one(&*queue).await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(1, LONG).await }
    });
    assert_eq!(queue.receive(1, Duration::ZERO).await, Ok(vec![]));
    delete(&*queue, &first).await;
    let deliveries = tokio::time::timeout(LONG / 2, waiting).await.expect("it wakes long before its wait is over");
    assert_eq!(deliveries.expect("no panic").expect("a receive")[0].body, "2");
}

pub async fn a_duplicate_is_accepted_and_dropped(world: &World) {
    let queue = world.fifo().await;
    let message = grouped("g", "once");
    send(&*queue, [message.clone(), message.clone()]).await;
    send(&*queue, [message.clone()]).await;
    let delivery = one(&*queue).await;
    delete(&*queue, &delivery).await;
    send(&*queue, [message]).await; // also after it was deleted
    send(&*queue, [grouped("g", "last")]).await;
    assert_eq!(one(&*queue).await.body, "last");
}

//! Visibility, receipts and the dead-letter queue.

use std::time::Duration;

use rollcall::cloud::{CloudError, Depth, QueueSpec, Receipt};

use super::{World, alone, delete, depth_becomes, grouped, nothing, one, plain, send};

pub async fn a_received_message_is_hidden_for_its_visibility_timeout(world: &World) {
    let queue = world.short_visibility(false).await;
    send(&*queue, [plain("again")]).await;
    let first = one(&*queue).await;
    nothing(&*queue, Duration::ZERO).await;
    let second = one(&*queue).await;
    assert_eq!(second.receives, 2);
    assert_eq!(second.body, "again");
    assert_ne!(first.receipt, second.receipt, "each delivery has a receipt of its own");
}

pub async fn an_extended_message_stays_hidden(world: &World) {
    let queue = world.short_visibility(false).await;
    send(&*queue, [plain("long work")]).await;
    let delivery = one(&*queue).await;
    let results = queue.extend(vec![(delivery.receipt.clone(), Duration::from_secs(60))]).await;
    assert_eq!(results, [Ok(())]);
    nothing(&*queue, 2 * world.tick).await;
    delete(&*queue, &delivery).await;
}

pub async fn a_message_extended_to_zero_is_visible_at_once(world: &World) {
    let queue = world.standard().await;
    send(&*queue, [plain("returned")]).await;
    let delivery = one(&*queue).await;
    assert_eq!(queue.extend(vec![(delivery.receipt, Duration::ZERO)]).await, [Ok(())]);
    assert_eq!(one(&*queue).await.receives, 2);
}

pub async fn a_deleted_message_is_never_delivered_again(world: &World) {
    let queue = world.short_visibility(false).await;
    send(&*queue, [plain("once")]).await;
    let delivery = one(&*queue).await;
    delete(&*queue, &delivery).await;
    nothing(&*queue, 2 * world.tick).await;
    depth_becomes(&*queue, Depth::default()).await;
}

pub async fn deleting_twice_is_fine(world: &World) {
    for fifo in [false, true] {
        let queue = world.create(world.spec(fifo)).await;
        send(&*queue, [alone(fifo, "twice")]).await;
        let delivery = one(&*queue).await;
        delete(&*queue, &delivery).await;
        let again = queue.delete(vec![delivery.receipt]).await;
        if world.reports_late_receipts {
            assert_eq!(again, [Ok(())]);
        }
        depth_becomes(&*queue, Depth::default()).await;
    }
}

pub async fn a_receipt_of_an_earlier_delivery_neither_deletes_nor_extends(world: &World) {
    let queue = world.short_visibility(true).await;
    send(&*queue, [grouped("g", "slow")]).await;
    let first = one(&*queue).await;
    let second = one(&*queue).await;
    assert_eq!(second.receives, 2);
    assert_eq!(queue.extend(vec![(second.receipt.clone(), Duration::from_secs(60))]).await, [Ok(())]);

    let late_delete = queue.delete(vec![first.receipt.clone()]).await;
    let late_extension = queue.extend(vec![(first.receipt, Duration::ZERO)]).await;
    if world.reports_late_receipts {
        assert!(matches!(late_delete[..], [Err(CloudError::Conflict(_))]), "{late_delete:?}");
        assert!(matches!(late_extension[..], [Err(CloudError::Conflict(_))]), "{late_extension:?}");
    }

    assert_eq!(queue.extend(vec![(second.receipt, Duration::ZERO)]).await, [Ok(())], "the later receipt still counts");
    let third = one(&*queue).await;
    assert_eq!(third.receives, 3);
    assert_eq!(third.body, "slow", "the message was not deleted");
}

pub async fn text_that_is_not_a_receipt_is_refused(world: &World) {
    let queue = world.standard().await;
    let junk = Receipt("junk".into());
    let results = queue.delete(vec![junk.clone()]).await;
    assert!(matches!(results[..], [Err(CloudError::Invalid(_) | CloudError::Conflict(_))]), "{results:?}");
    let results = queue.extend(vec![(junk, world.tick)]).await;
    assert!(matches!(results[..], [Err(CloudError::Invalid(_) | CloudError::Conflict(_))]), "{results:?}");
}

pub async fn a_message_received_too_often_goes_to_the_dead_letter_queue(world: &World) {
    for fifo in [false, true] {
        let dead = world.spec(fifo);
        let spec = QueueSpec { max_receives: 2, dead_letter: Some(dead.name.clone()), ..world.spec(fifo) };
        let dead = world.create(dead).await;
        let queue = world.create(spec).await;
        send(&*queue, [alone(fifo, "poison")]).await;
        for receives in 1..=2 {
            let delivery = one(&*queue).await;
            assert_eq!(delivery.receives, receives);
            assert_eq!(queue.extend(vec![(delivery.receipt, Duration::ZERO)]).await, [Ok(())]);
        }
        nothing(&*queue, Duration::ZERO).await;
        assert_eq!(one(&*dead).await.body, "poison");
        depth_becomes(&*queue, Depth::default()).await;
    }
}

//! Messages arrive as they were sent, once, and batches have a result per entry.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use rollcall::cloud::{CloudError, Depth, Message};

use super::{World, alone, delete, depth_becomes, drain, grouped, one, plain, send, text};

pub async fn a_message_is_delivered_unchanged(world: &World) {
    let queue = world.standard().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let bodies = [b"plain".to_vec(), "<&>\"' Ω 🙂\n\ttabs".into(), every_byte, vec![0; 250_000]];
    for body in bodies.map(Bytes::from) {
        send(&*queue, [Message { body: body.clone(), ..Message::default() }]).await;
        let delivery = one(&*queue).await;
        assert!(delivery.body == body, "{} bytes came as {}", body.len(), delivery.body.len());
        assert_eq!(delivery.receives, 1);
        delete(&*queue, &delivery).await;
    }
}

pub async fn each_entry_of_a_batch_has_its_own_result(world: &World) {
    let queue = world.standard().await;
    let mut batch: Vec<Message> = (0..25).map(|n| plain(&n.to_string())).collect();
    batch[7] = plain(&"x".repeat((1 << 20) + 1));
    let results = queue.send(batch).await;
    assert_eq!(results.len(), 25);
    for (n, result) in results.into_iter().enumerate() {
        if n == 7 {
            assert!(matches!(result, Err(CloudError::Invalid(_))), "{result:?}");
        } else {
            result.expect("accepted");
        }
    }
    let mut bodies: Vec<usize> = drain(&*queue, 24).await.iter().map(|b| b.parse().expect("a number")).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..25).filter(|n| *n != 7).collect::<Vec<_>>());
}

pub async fn empty_batches_have_no_results(world: &World) {
    let queue = world.standard().await;
    assert_eq!(queue.send(vec![]).await, []);
    assert_eq!(queue.delete(vec![]).await, []);
    assert_eq!(queue.extend(vec![]).await, []);
}

pub async fn a_batch_may_exceed_the_size_limit_of_one_call(world: &World) {
    let queue = world.standard().await;
    let body = "x".repeat(300_000);
    send(&*queue, (0..8).map(|_| plain(&body))).await; // 2.4 MB: more than one call to SQS accepts
    assert!(drain(&*queue, 8).await.iter().all(|b| *b == body));
}

pub async fn a_buffered_message_is_a_message_like_any_other(world: &World) {
    let queue = world.fifo().await;
    let (first, second) = (grouped("g", "first"), grouped("g", "second"));
    for sent in [queue.send_buffered(vec![first.clone()]).await, queue.send_buffered(vec![first.clone()]).await] {
        assert_eq!(sent, [Ok(())]);
    }
    send(&*queue, [first, second]).await; // the first is a duplicate, however it was sent
    queue.flush().await.expect("durable");
    for expected in ["first", "second"] {
        let delivery = one(&*queue).await;
        assert_eq!((delivery.receives, text(delivery.clone()).as_str()), (1, expected));
        delete(&*queue, &delivery).await;
    }
    depth_becomes(&*queue, Depth::default()).await;
    let refused = queue.send_buffered(vec![plain("no group")]).await;
    assert!(matches!(refused[..], [Err(CloudError::Invalid(_))]), "{refused:?}");
}

pub async fn racing_receivers_never_receive_the_same_message(world: &World) {
    for fifo in [false, true] {
        let queue = world.create(world.spec(fifo)).await;
        send(&*queue, (0..100).map(|n| alone(fifo, &n.to_string()))).await;
        let receivers = (0..8).map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut bodies = Vec::new();
                loop {
                    let deliveries = queue.receive(3, Duration::ZERO).await.expect("a receive");
                    if deliveries.is_empty() {
                        return bodies;
                    }
                    bodies.extend(deliveries.into_iter().map(text));
                }
            })
        });
        let mut times: HashMap<String, usize> = HashMap::new();
        for bodies in join_all(receivers).await {
            for body in bodies.expect("no panic") {
                *times.entry(body).or_default() += 1;
            }
        }
        assert!(times.values().all(|n| *n == 1), "somebody had the same message: {times:?}");
        assert_eq!(times.len(), 100);
    }
}

pub async fn depth_counts_messages_by_state(world: &World) {
    let queue = world.standard().await;
    depth_becomes(&*queue, Depth::default()).await;
    send(&*queue, ["a", "b", "c"].map(plain)).await;
    send(&*queue, [Message { delay: Duration::from_secs(600), ..plain("d") }]).await;
    depth_becomes(&*queue, Depth { visible: 3, in_flight: 0, delayed: 1 }).await;
    let delivery = one(&*queue).await;
    depth_becomes(&*queue, Depth { visible: 2, in_flight: 1, delayed: 1 }).await;
    delete(&*queue, &delivery).await;
    depth_becomes(&*queue, Depth { visible: 2, in_flight: 0, delayed: 1 }).await;
}

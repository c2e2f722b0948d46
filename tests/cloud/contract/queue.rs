//! What `Queue` and `Queues` promise, as cases that hold for every adapter. An adapter's test file makes a [`World`] and
//! instantiates them with `queue_contract!`.

use std::{any::Any, collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use rollcall::cloud::{CloudError, Delivery, Depth, Message, Queue, QueueSpec, Queues, Receipt};
use ulid::Ulid;

use rollcall_testing::wait_until;

/// Long enough for anything that happens at all.
const LONG: Duration = Duration::from_secs(20);

/// An adapter, and what the cases must know of it.
pub struct World {
    /// The adapter under test.
    pub queues: Arc<dyn Queues>,
    /// Who makes queues: the adapter, or its parent where workers make none.
    pub maker: Arc<dyn Queues>,
    /// Shortest visibility and delay that the adapter keeps.
    pub tick: Duration,
    /// Whether the answer to a receipt that no longer counts says so as the contract has it. An emulator's may differ;
    /// in no case may such a receipt do anything.
    pub tells_late_receipts: bool,
    /// What must live as long as the adapter.
    pub _keep: Box<dyn Any + Send + Sync>,
}

impl World {
    fn spec(&self, fifo: bool) -> QueueSpec {
        QueueSpec {
            name: format!("contract-{}{}", Ulid::generate(), if fifo { ".fifo" } else { "" }),
            fifo,
            visibility: Duration::from_secs(60),
            max_receives: 1000,
            dead_letter: None,
            durable: true,
        }
    }

    async fn make(&self, spec: QueueSpec) -> Arc<dyn Queue> {
        let name = spec.name.clone();
        self.maker.create(spec).await.expect("the queue is made");
        self.queues.open(&name).await.expect("the queue is there")
    }

    async fn standard(&self) -> Arc<dyn Queue> {
        self.make(self.spec(false)).await
    }

    async fn fifo(&self) -> Arc<dyn Queue> {
        self.make(self.spec(true)).await
    }

    /// A queue whose messages come back after one tick.
    async fn impatient(&self, fifo: bool) -> Arc<dyn Queue> {
        self.make(QueueSpec { visibility: self.tick, ..self.spec(fifo) }).await
    }
}

fn plain(body: &str) -> Message {
    Message { body: body.to_owned().into(), ..Message::default() }
}

fn grouped(group: &str, body: &str) -> Message {
    Message {
        body: body.to_owned().into(),
        group: Some(group.into()),
        dedup: Some(Ulid::generate().to_string()),
        ..Message::default()
    }
}

/// A body that is text.
fn text(delivery: Delivery) -> String {
    String::from_utf8(delivery.body.into()).expect("text")
}

async fn send(queue: &dyn Queue, messages: impl IntoIterator<Item = Message>) {
    for result in queue.send(messages.into_iter().collect()).await {
        result.expect("the message is accepted");
    }
}

/// The next message, which must come.
async fn one(queue: &dyn Queue) -> Delivery {
    let mut deliveries = queue.receive(1, LONG).await.expect("a receive");
    assert_eq!(deliveries.len(), 1, "no message came");
    deliveries.remove(0)
}

async fn nothing(queue: &dyn Queue, wait: Duration) {
    assert_eq!(queue.receive(10, wait).await.expect("a receive"), [], "nothing may be visible");
}

async fn delete(queue: &dyn Queue, delivery: &Delivery) {
    for result in queue.delete(vec![delivery.receipt.clone()]).await {
        result.expect("the message is deleted");
    }
}

/// A message that waits for no other, for either kind of queue.
fn alone(fifo: bool, body: &str) -> Message {
    if fifo { grouped(&Ulid::generate().to_string(), body) } else { plain(body) }
}

/// Receives and deletes `n` messages; their bodies in order of arrival.
async fn drain(queue: &dyn Queue, n: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < n {
        let deliveries = queue.receive(10, LONG).await.expect("a receive");
        assert!(!deliveries.is_empty(), "only {} of {n} messages came", bodies.len());
        for result in queue.delete(deliveries.iter().map(|d| d.receipt.clone()).collect()).await {
            result.expect("the message is deleted");
        }
        bodies.extend(deliveries.into_iter().map(text));
    }
    bodies
}

/// Counts may lag: waits until they are as they should be.
async fn depth_becomes(queue: &dyn Queue, expected: Depth) {
    let what = format!("the depth is {expected:?}");
    wait_until(&what, LONG, async || queue.depth().await.expect("a depth") == expected).await;
}

pub async fn a_message_comes_as_it_was_sent(world: &World) {
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

pub async fn empty_batches_are_nothing(world: &World) {
    let queue = world.standard().await;
    assert_eq!(queue.send(vec![]).await, []);
    assert_eq!(queue.delete(vec![]).await, []);
    assert_eq!(queue.extend(vec![]).await, []);
}

pub async fn messages_in_a_batch_may_be_large_together(world: &World) {
    let queue = world.standard().await;
    let body = "x".repeat(300_000);
    send(&*queue, (0..8).map(|_| plain(&body))).await; // 2.4 MB: more than one call of SQS takes
    assert!(drain(&*queue, 8).await.iter().all(|b| *b == body));
}

pub async fn a_received_message_is_hidden_until_its_visibility_runs_out(world: &World) {
    let queue = world.impatient(false).await;
    send(&*queue, [plain("again")]).await;
    let first = one(&*queue).await;
    nothing(&*queue, Duration::ZERO).await;
    let second = one(&*queue).await;
    assert_eq!(second.receives, 2);
    assert_eq!(second.body, "again");
    assert_ne!(first.receipt, second.receipt, "each delivery has a receipt of its own");
}

pub async fn an_extended_message_stays_hidden(world: &World) {
    let queue = world.impatient(false).await;
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

pub async fn a_deleted_message_never_comes_again(world: &World) {
    let queue = world.impatient(false).await;
    send(&*queue, [plain("once")]).await;
    let delivery = one(&*queue).await;
    delete(&*queue, &delivery).await;
    nothing(&*queue, 2 * world.tick).await;
    depth_becomes(&*queue, Depth::default()).await;
}

pub async fn deleting_twice_is_fine(world: &World) {
    for fifo in [false, true] {
        let queue = world.make(world.spec(fifo)).await;
        send(&*queue, [alone(fifo, "twice")]).await;
        let delivery = one(&*queue).await;
        delete(&*queue, &delivery).await;
        let again = queue.delete(vec![delivery.receipt]).await;
        if world.tells_late_receipts {
            assert_eq!(again, [Ok(())]);
        }
        depth_becomes(&*queue, Depth::default()).await;
    }
}

pub async fn a_receipt_of_an_earlier_delivery_neither_deletes_nor_extends(world: &World) {
    let queue = world.impatient(true).await;
    send(&*queue, [grouped("g", "slow")]).await;
    let first = one(&*queue).await;
    let second = one(&*queue).await;
    assert_eq!(second.receives, 2);
    assert_eq!(queue.extend(vec![(second.receipt.clone(), Duration::from_secs(60))]).await, [Ok(())]);

    let late_delete = queue.delete(vec![first.receipt.clone()]).await;
    let late_extension = queue.extend(vec![(first.receipt, Duration::ZERO)]).await;
    if world.tells_late_receipts {
        assert!(matches!(late_delete[..], [Err(CloudError::Conflict(_))]), "{late_delete:?}");
        assert!(matches!(late_extension[..], [Err(CloudError::Conflict(_))]), "{late_extension:?}");
    }

    assert_eq!(queue.extend(vec![(second.receipt, Duration::ZERO)]).await, [Ok(())], "the later receipt still counts");
    let third = one(&*queue).await;
    assert_eq!(third.receives, 3);
    assert_eq!(third.body, "slow", "the message was not deleted");
}

pub async fn what_is_no_receipt_is_refused(world: &World) {
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
        let dead = world.make(dead).await;
        let queue = world.make(spec).await;
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

pub async fn a_long_poll_wakes_when_a_message_comes(world: &World) {
    let queue = world.standard().await;
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.receive(1, LONG).await }
    });
    nothing(&*queue, Duration::ZERO).await; // the other has had its turn to begin
    send(&*queue, [plain("at last")]).await;
    let deliveries = tokio::time::timeout(LONG / 2, waiting).await.expect("it wakes long before its wait is over");
    assert_eq!(deliveries.expect("no panic").expect("a receive")[0].body, "at last");
}

pub async fn a_long_poll_that_is_given_up_loses_nothing(world: &World) {
    let queue = world.impatient(false).await;
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

pub async fn a_delayed_message_comes_later(world: &World) {
    let queue = world.standard().await;
    let delay = 2 * world.tick;
    send(&*queue, [Message { delay, ..plain("later") }, plain("now")]).await;
    let first = one(&*queue).await;
    assert_eq!(first.body, "now");
    assert_eq!(queue.depth().await.expect("a depth").total(), 2, "a delayed message counts");
    assert_eq!(one(&*queue).await.body, "later");
}

pub async fn depth_says_what_messages_do(world: &World) {
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

pub async fn a_group_is_delivered_in_order_and_one_at_a_time(world: &World) {
    let queue = world.fifo().await;
    send(&*queue, ["1", "2", "3"].map(|body| grouped("g", body))).await;
    for expected in ["1", "2", "3"] {
        let delivery = one(&*queue).await;
        assert_eq!(delivery.body, expected);
        assert_eq!(queue.receive(1, Duration::ZERO).await, Ok(vec![]), "the group waits for {expected}");
        delete(&*queue, &delivery).await;
    }
}

pub async fn a_message_given_back_is_still_the_first_of_its_group(world: &World) {
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

pub async fn a_delete_wakes_whoever_waits_for_the_group(world: &World) {
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
    send(&*queue, [message]).await; // also after it was dealt with
    send(&*queue, [grouped("g", "last")]).await;
    assert_eq!(one(&*queue).await.body, "last");
}

pub async fn what_is_sent_soon_is_a_message_like_any_other(world: &World) {
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

pub async fn racing_receivers_never_have_the_same_message(world: &World) {
    for fifo in [false, true] {
        let queue = world.make(world.spec(fifo)).await;
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

pub async fn creating_again_is_the_same_queue_and_other_settings_are_refused(world: &World) {
    let spec = world.spec(false);
    let queue = world.make(spec.clone()).await;
    send(&*queue, [plain("kept")]).await;
    let again = world.make(spec.clone()).await;
    assert_eq!(one(&*again).await.body, "kept");
    let other = QueueSpec { visibility: Duration::from_secs(7), ..spec };
    let refused = world.maker.create(other).await.err();
    assert!(matches!(refused, Some(CloudError::Invalid(_))), "{refused:?}");
}

pub async fn a_queue_nobody_made_is_not_found(world: &World) {
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
    assert!(matches!(world.maker.create(spec).await.err(), Some(CloudError::Invalid(_))));
    for (max, wait) in [(0, Duration::ZERO), (11, Duration::ZERO), (1, Duration::from_secs(21))] {
        let result = standard.receive(max, wait).await;
        assert!(matches!(result, Err(CloudError::Invalid(_))), "{max}, {wait:?}: {result:?}");
    }
}

/// Makes tests of all cases on the adapter that `$world` (an async fn) makes; see [`contract_tests`].
#[macro_export]
macro_rules! queue_contract {
    ($how:ident, $adapter:ident, $world:path) => {
        $crate::contract_tests! { $how, queue, $adapter, $world,
            a_message_comes_as_it_was_sent
            each_entry_of_a_batch_has_its_own_result
            empty_batches_are_nothing
            messages_in_a_batch_may_be_large_together
            a_received_message_is_hidden_until_its_visibility_runs_out
            an_extended_message_stays_hidden
            a_message_extended_to_zero_is_visible_at_once
            a_deleted_message_never_comes_again
            deleting_twice_is_fine
            a_receipt_of_an_earlier_delivery_neither_deletes_nor_extends
            what_is_no_receipt_is_refused
            a_message_received_too_often_goes_to_the_dead_letter_queue
            a_long_poll_wakes_when_a_message_comes
            a_long_poll_that_is_given_up_loses_nothing
            a_delayed_message_comes_later
            depth_says_what_messages_do
            a_group_is_delivered_in_order_and_one_at_a_time
            a_message_given_back_is_still_the_first_of_its_group
            groups_do_not_wait_for_one_another
            a_delete_wakes_whoever_waits_for_the_group
            a_duplicate_is_accepted_and_dropped
            what_is_sent_soon_is_a_message_like_any_other
            racing_receivers_never_have_the_same_message
            creating_again_is_the_same_queue_and_other_settings_are_refused
            a_queue_nobody_made_is_not_found
            calls_beyond_the_limits_are_refused
        }
    };
}

//! What `Queue` and `Queues` promise, as cases that hold for every adapter. The test file of an adapter makes a
//! [`World`] and instantiates them with `queue_contract!`.

mod groups;
mod limits;
mod messages;
mod polling;
mod receipts;

use std::{any::Any, sync::Arc, time::Duration};

use rollcall::cloud::{Delivery, Depth, Message, Queue, QueueSpec, Queues};
use ulid::Ulid;

use rollcall_testing::wait_until;

pub use self::{groups::*, limits::*, messages::*, polling::*, receipts::*};

/// Longest time for anything that is expected to happen.
const LONG: Duration = Duration::from_secs(20);

/// An adapter, and what the cases need to know about it.
pub struct World {
    /// The adapter under test.
    pub queues: Arc<dyn Queues>,
    /// What creates queues: the adapter itself, or its parent if the adapter cannot.
    pub creator: Arc<dyn Queues>,
    /// Shortest visibility and delay that the adapter supports.
    pub tick: Duration,
    /// Whether calls with a receipt that is no longer valid return the errors of the contract. Those of an emulator may
    /// differ; in any case, such a receipt must have no effect.
    pub reports_late_receipts: bool,
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

    async fn create(&self, spec: QueueSpec) -> Arc<dyn Queue> {
        let name = spec.name.clone();
        self.creator.create(spec).await.expect("the queue is created");
        self.queues.open(&name).await.expect("the queue is there")
    }

    async fn standard(&self) -> Arc<dyn Queue> {
        self.create(self.spec(false)).await
    }

    async fn fifo(&self) -> Arc<dyn Queue> {
        self.create(self.spec(true)).await
    }

    /// Creates a queue with a visibility of one tick.
    async fn short_visibility(&self, fifo: bool) -> Arc<dyn Queue> {
        self.create(QueueSpec { visibility: self.tick, ..self.spec(fifo) }).await
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

/// Returns a body as text.
fn text(delivery: Delivery) -> String {
    String::from_utf8(delivery.body.into()).expect("text")
}

async fn send(queue: &dyn Queue, messages: impl IntoIterator<Item = Message>) {
    for result in queue.send(messages.into_iter().collect()).await {
        result.expect("the message is accepted");
    }
}

/// Receives the next message, which must arrive.
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

/// Returns a message for either kind of queue; on a FIFO queue, it has a group of its own.
fn alone(fifo: bool, body: &str) -> Message {
    if fifo { grouped(&Ulid::generate().to_string(), body) } else { plain(body) }
}

/// Receives and deletes `n` messages, and returns their bodies in order of arrival.
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

/// Waits until the counts, which may lag behind, are as expected.
async fn depth_becomes(queue: &dyn Queue, expected: Depth) {
    let what = format!("the depth is {expected:?}");
    wait_until(&what, LONG, async || queue.depth().await.expect("a depth") == expected).await;
}

/// Defines tests of all cases on the adapter that `$world` (an async fn) makes; see [`contract_tests`].
#[macro_export]
macro_rules! queue_contract {
    ($how:ident, $adapter:ident, $world:path) => {
        $crate::contract_tests! { $how, queue, $adapter, $world,
            a_message_is_delivered_unchanged
            each_entry_of_a_batch_has_its_own_result
            empty_batches_have_no_results
            a_batch_may_exceed_the_size_limit_of_one_call
            a_received_message_is_hidden_for_its_visibility_timeout
            an_extended_message_stays_hidden
            a_message_extended_to_zero_is_visible_at_once
            a_deleted_message_is_never_delivered_again
            deleting_twice_is_fine
            a_receipt_of_an_earlier_delivery_neither_deletes_nor_extends
            text_that_is_not_a_receipt_is_refused
            a_message_received_too_often_goes_to_the_dead_letter_queue
            a_long_poll_returns_when_a_message_arrives
            a_cancelled_long_poll_loses_nothing
            a_delayed_message_is_delivered_after_its_delay
            depth_counts_messages_by_state
            a_group_is_delivered_in_order_and_one_at_a_time
            a_returned_message_is_still_the_first_of_its_group
            groups_do_not_wait_for_one_another
            a_delete_wakes_a_receiver_that_waits_for_the_group
            a_duplicate_is_accepted_and_dropped
            a_buffered_message_is_a_message_like_any_other
            racing_receivers_never_receive_the_same_message
            creating_a_queue_again_opens_it_and_refuses_other_settings
            a_queue_that_was_never_created_is_not_found
            calls_beyond_the_limits_are_refused
        }
    };
}

//! What the SQS adapter does beyond the contract of its port: it checks and corrects attributes, and deletes queues.

use std::time::Duration;

use rollcall::cloud::{
    CloudError, Message, QueueSpec, Queues,
    aws::{SqsQueues, sqs_client},
};
use rollcall_testing::emulators::{sdk, shared_ministack};

async fn queues() -> SqsQueues {
    SqsQueues::new(sqs_client(&sdk(&shared_ministack().await.url).await), Duration::ZERO, "attributes")
}

fn spec(name: &str) -> QueueSpec {
    QueueSpec {
        name: format!("{}-{name}", ulid::Ulid::generate()),
        fifo: false,
        visibility: Duration::from_secs(30),
        max_receives: 1_000,
        dead_letter: None,
        durable: true,
    }
}

fn is_invalid<T>(result: &Result<T, CloudError>) -> bool {
    matches!(result, Err(CloudError::Invalid(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_that_differs_is_rejected_and_corrected_only_on_request() {
    let spec = spec("jobs");
    queues().await.create(spec.clone()).await.expect("created");
    let longer = QueueSpec { visibility: Duration::from_secs(60), ..spec.clone() };
    let rejected = queues().await.create(longer.clone()).await.map(drop);
    assert!(is_invalid(&rejected), "{rejected:?}");
    assert_eq!(queues().await.inspect(&spec).await, Ok(()), "the queue is unchanged");

    queues().await.correcting_attributes().create(longer.clone()).await.expect("corrected");
    assert_eq!(queues().await.inspect(&longer).await, Ok(()));
    assert!(is_invalid(&queues().await.inspect(&spec).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_queue_must_exist_and_is_checked_like_any_attribute() {
    let dead = spec("dead");
    let jobs = QueueSpec { dead_letter: Some(dead.name.clone()), max_receives: 5, ..spec("jobs") };
    let early = queues().await.create(jobs.clone()).await.map(drop);
    assert!(is_invalid(&early), "{early:?}");
    queues().await.create(dead).await.expect("created");
    queues().await.create(jobs.clone()).await.expect("created");
    assert!(is_invalid(&queues().await.inspect(&QueueSpec { max_receives: 6, ..jobs }).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_gone_and_may_be_deleted_again() {
    let spec = spec("replies");
    let queue = queues().await.create(spec.clone()).await.expect("created");
    assert_eq!(queues().await.delete(&spec.name).await, Ok(()));
    let opened = queues().await.open(&spec.name).await.map(drop);
    assert!(matches!(opened, Err(CloudError::NotFound(_))), "{opened:?}");
    assert_eq!(queues().await.delete(&spec.name).await, Ok(()));
    let sent = queue.send(vec![Message { body: "late".into(), ..Message::default() }; 3]).await;
    assert!(matches!(sent[..], [Err(CloudError::NotFound(_)), ..]) && sent.len() == 3, "{sent:?}");
}

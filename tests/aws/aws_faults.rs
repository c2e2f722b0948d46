//! Calls that fail, are throttled, are cut off, or are applied without a response: nothing is lost, nothing is done
//! twice.

use std::{collections::HashSet, time::Duration};

use crate::support::{
    lossy_proxy::LossyProxy,
    wire::{faults, lost_response, rules, tally, times_fired},
};
use backon::{ExponentialBuilder, Retryable as _};
use rollcall::{
    cloud::{
        CloudError, Compute, Message, ObjectStore, Precondition, QueueSpec, Queues,
        aws::{Ec2Compute, Ec2Options, Encryption, S3Objects, SqsQueues, ec2_client, s3_client, sqs_client},
    },
    settings::Launching,
};
use rollcall_testing::Emulator;
use serde_json::json;

const MESSAGES: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn every_message_arrives_and_none_is_left_while_a_third_of_calls_fail() {
    let upstream = Emulator::ministack().await;
    let proxy = faults(&upstream.url).await;
    let queues = SqsQueues::new(
        sqs_client(&rollcall_testing::emulators::sdk(&proxy.url).await),
        Duration::from_millis(5),
        "faults",
    );
    let spec = QueueSpec {
        name: "faults.fifo".into(),
        fifo: true,
        visibility: Duration::from_secs(3),
        max_receives: 1000,
        dead_letter: None,
        durable: true,
    };
    let queue = queues.create(spec).await.expect("made");
    let proxies = std::slice::from_ref(&proxy);
    let baseline = tally(proxies).await;
    // On average, 34 % of the calls fail.
    rules(
        &proxy,
        json!([
            { "service": "sqs", "probability": 0.1, "error": { "code": "RequestThrottled", "status": 400 } },
            { "service": "sqs", "probability": 0.1, "error": { "code": "ServiceUnavailable", "status": 503 } },
            { "service": "sqs", "probability": 0.1, "reset": true },
            { "service": "sqs", "probability": 0.1, "response": { "abort_frac": 0.0 } },
        ]),
    )
    .await;

    let backoff = || ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_times(20);
    let sent = (0..MESSAGES).map(|n| {
        let queue = queue.clone();
        tokio::spawn(async move {
            let message = || async {
                let body = n.to_string();
                let (group, dedup) = (Some(body.clone()), Some(body.clone()));
                let message = Message { group, dedup, body: body.into(), delay: Duration::ZERO };
                queue.send(vec![message]).await.remove(0)
            };
            message.retry(backoff()).when(CloudError::retryable).await.expect("accepted in the end");
        })
    });
    for sent in futures_util::future::join_all(sent).await {
        sent.expect("no panic");
    }

    let mut seen = HashSet::new();
    loop {
        match queue.receive(10, Duration::from_secs(1)).await {
            Ok(deliveries) => {
                let receipts = deliveries.iter().map(|d| d.receipt.clone()).collect();
                seen.extend(deliveries.into_iter().map(|d| d.body));
                queue.delete(receipts).await; // a message whose delete fails is delivered again
            }
            Err(error) => assert!(error.retryable(), "{error:?}"),
        }
        if seen.len() == MESSAGES && queue.depth().await.is_ok_and(|depth| depth.total() == 0) {
            break;
        }
    }
    let storm = tally(proxies).await.since(baseline);
    // Chance may halve the share of about a hundred calls, but no more.
    assert!(storm.failed > 10 && storm.share() > 1.0 / 6.0, "the faults were real: {storm:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_sqs_rejects_as_too_long_is_split_into_more_calls() {
    let upstream = Emulator::ministack().await;
    let proxy = faults(&upstream.url).await;
    let queues = SqsQueues::new(
        sqs_client(&rollcall_testing::emulators::sdk(&proxy.url).await),
        Duration::from_millis(5),
        "faults",
    );
    let spec = QueueSpec {
        name: "small".into(),
        fifo: false,
        visibility: Duration::from_secs(60),
        max_receives: 1000,
        dead_letter: None,
        durable: true,
    };
    let queue = queues.create(spec).await.expect("made");
    let too_long = json!([{
        "service": "sqs",
        "operation": "SendMessageBatch",
        "body": "length(Entries) > `3`",
        "error": { "code": "BatchRequestTooLong", "status": 400 },
    }]);
    rules(&proxy, too_long).await;
    let messages = (0..10).map(|n| Message { body: n.to_string().into(), ..Message::default() });
    assert!(queue.send(messages.collect()).await.iter().all(Result::is_ok));
    assert_eq!(queue.depth().await.expect("a depth").total(), 10);
    assert!(times_fired(&proxy).await > 0, "the limit was real");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conditional_write_with_a_lost_response_is_recognised_as_successful() {
    let upstream = Emulator::ministack().await;
    let proxy = LossyProxy::start(&upstream.url).await;
    let client = s3_client(&rollcall_testing::emulators::sdk(&proxy.url).await, true);
    client.create_bucket().bucket("faults").send().await.expect("a bucket");
    let store = S3Objects::new(client, Encryption::S3);

    proxy.lose_next();
    let etag = store.put("faults", "lease", "ours".into(), Precondition::Absent).await.expect("written by us");
    assert!(proxy.has_lost(), "the fault was real");
    let other = store.put("faults", "lease", "theirs".into(), Precondition::Absent).await;
    assert!(matches!(other, Err(CloudError::Conflict(_))), "{other:?}");

    proxy.lose_next();
    let etag = store.put("faults", "lease", "ours again".into(), Precondition::Match(etag)).await.expect("ours");
    assert!(proxy.has_lost(), "the fault was real");
    assert_eq!(store.get("faults", "lease").await.expect("there").etag, etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_conditional_write_does_not_claim_another_writers_object() {
    let upstream = Emulator::ministack().await;
    let proxy = faults(&upstream.url).await;
    let client = s3_client(&rollcall_testing::emulators::sdk(&proxy.url).await, true);
    client.create_bucket().bucket("faults").send().await.expect("a bucket");
    let store = S3Objects::new(client, Encryption::S3);
    store.put("faults", "lease", "theirs".into(), Precondition::Absent).await.expect("written by another");

    let failed = json!([{
        "service": "s3", "operation": "PutObject", "times": 1, "error": { "code": "InternalError", "status": 500 },
    }]);
    rules(&proxy, failed).await;
    let ours = store.put("faults", "lease", "ours".into(), Precondition::Absent).await;
    assert!(matches!(ours, Err(CloudError::Conflict(_))), "{ours:?}");
    assert_eq!(times_fired(&proxy).await, 1, "the fault was real");
    assert_eq!(store.get("faults", "lease").await.expect("there").bytes, "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_retried_after_a_lost_response_is_made_only_once() {
    let upstream = Emulator::ec2(None, &[]).await;
    let proxy = faults(&upstream.url).await;
    // Where there is another type, it is tried if EC2 shows that nothing was launched.
    for (n, instance_types) in [vec![], vec!["c7i.large".into(), "c6i.large".into()]].into_iter().enumerate() {
        let options = Ec2Options {
            cluster: format!("faults-{n}"),
            name_prefix: "worker-".into(),
            launch: Launching { image: Some("ami-12345678".into()), instance_types, ..Launching::default() },
            ..Ec2Options::default()
        };
        let compute = Ec2Compute::new(ec2_client(&rollcall_testing::emulators::sdk(&proxy.url).await), options);
        rules(&proxy, lost_response("ec2", "RunInstances")).await;
        let lost = compute.launch("token", 2).await;
        assert!(matches!(lost, Err(CloudError::Unavailable(_))), "{lost:?}");
        let mut ids = compute.launch("token", 2).await.expect("launched");
        let mut seen: Vec<_> = compute.describe().await.expect("described").into_iter().map(|i| i.id).collect();
        seen.sort();
        ids.sort();
        assert_eq!((ids.len(), &seen), (2, &ids));
        assert_eq!(times_fired(&proxy).await, n + 1, "the fault was real");
    }
}

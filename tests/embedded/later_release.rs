//! A job that a later release has sent is not lost by workers that cannot read it: it fails with the reason, and is done when
//! it is sent again to workers that can.

use std::time::Duration;

use rollcall::cloud::{Message, QueueSpec, Queues as _, local::Broker};
use rollcall_testing::http::Client;
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);
const DETECTOR: &str = "ROLLCALL__RECOGNITION__DETECTOR";

/// Returns a queue as the server has created it; only the name counts for a queue that exists.
fn spec(name: &str) -> QueueSpec {
    QueueSpec {
        name: name.into(),
        fifo: true,
        visibility: Duration::from_secs(30),
        max_receives: 1,
        dead_letter: None,
        durable: true,
    }
}

/// Deletes what a server that has ended left in its dead-letter queue: a letter that it has stored, but whose message it has
/// not deleted yet. It would be stored once more, as it was.
async fn empty_dead_letter_queue(server: &Rollcall) {
    let broker = Broker::open(server.data_dir()).expect("the queues");
    let queue = broker.create(spec("rollcall-dead.fifo")).await.expect("a queue");
    for delivery in queue.receive(10, Duration::ZERO).await.expect("received") {
        queue.delete(vec![delivery.receipt]).await.remove(0).expect("deleted");
    }
}

/// Replaces the only message of the request queue by one whose format is `version`.
async fn set_version(server: &Rollcall, version: u8) {
    let broker = Broker::open(server.data_dir()).expect("the queues");
    let queue = broker.create(spec("rollcall-listener.fifo")).await.expect("a queue");
    let delivery = queue.receive(1, Duration::ZERO).await.expect("received").pop().expect("a job");
    let mut body = delivery.body.to_vec();
    body[0] = version;
    let message = Message {
        body: body.into(),
        group: delivery.group.clone(),
        dedup: Some(format!("version {version}")),
        ..Message::default()
    };
    queue.delete(vec![delivery.receipt]).await.remove(0).expect("deleted");
    queue.send(vec![message]).await.remove(0).expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_later_release_is_a_dead_letter_and_is_done_by_workers_that_can_read_it() {
    let options = RollcallOptions::default().env("ROLLCALL__QUEUE__MAX_RECEIVES", "1");
    // No worker comes up, so that the job stays in the queue.
    let mut server = Rollcall::start(options.env(DETECTOR, "/nonexistent.onnx")).await;
    let request = Client::new().post(server.url("/v1/recognitions")).header("Prefer", "respond-async");
    let accepted = request.multipart(form(&[("a.jpg", &photo(MACRON))])).send().await.expect("a response");
    assert_eq!(accepted.status(), 202);
    let id = accepted.json::<Value>().await.expect("JSON")["id"].as_str().expect("an id").to_owned();
    server.kill9();
    set_version(&server, 99).await;
    server.set_env(DETECTOR, None);
    assert!(server.run(&["enroll", KNOWN]).status.success());
    server.restart().await;

    let url = server.url(&format!("/v1/recognitions/{id}"));
    let result =
        async || -> Value { rollcall_testing::http::get(&url).await.expect("a response").json().await.expect("JSON") };
    wait_until("it is given up", TIMEOUT, async || result().await["status"] == "failed").await;
    let reason = result().await["problem"]["detail"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("no worker could read the job") && reason.contains("format 99"), "{reason}");
    let listed = String::from_utf8(server.run(&["dead", "list"]).stdout).expect("text");
    assert!(listed.starts_with(&id) && listed.contains("a.jpg"), "{listed}");

    // The workers are upgraded: here, the message is given the format that they read.
    server.stop().await;
    empty_dead_letter_queue(&server).await;
    let retried = server.data_dir().join("objects/rollcall-state/dead-letters").join(&id);
    let [letter] = &std::fs::read_dir(&retried).expect("a folder").collect::<Vec<_>>()[..] else {
        panic!("one letter")
    };
    let letter = letter.as_ref().expect("an entry").path();
    let mut body = std::fs::read(&letter).expect("the dead letter");
    body[0] = 2;
    std::fs::write(&letter, body).expect("written");
    server.restart().await;
    let retried = server.run(&["dead", "retry", &id]);
    assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
    wait_until("it is done", TIMEOUT, async || result().await["status"] == "done").await;
    assert_eq!(result().await["label"], "Emmanuel_Macron");
}

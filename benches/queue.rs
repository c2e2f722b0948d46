//! Measures the throughput of the durable queue: `cargo bench --bench queue`. Messages of 20 kB, about the size of an
//! uploaded photo, are sent, received and deleted. Each step is acknowledged before the next.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rollcall::cloud::{Message, Queue, QueueSpec, Queues, local::Broker};

/// Bytes of a message.
const BODY: usize = 20_000;
/// Length of a measurement.
const TIME: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    println!("messages/s through the durable queue (send, receive, delete), bodies of {BODY} bytes");
    println!("{:>6} {:>8} {:>12}", "batch", "clients", "messages/s");
    for (batch, clients) in [(1, 1), (1, 16), (1, 64), (32, 1), (32, 4)] {
        let rate = runtime.block_on(throughput(batch, clients))?;
        println!("{batch:>6} {clients:>8} {rate:>12.0}");
    }
    Ok(())
}

/// Returns the number of messages per second that were sent, received and deleted.
async fn throughput(batch: usize, clients: usize) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let broker = Broker::open(folder.path())?;
    let queue = broker
        .create(QueueSpec {
            name: "bench".into(),
            fifo: false,
            visibility: Duration::from_secs(600),
            max_receives: 10,
            dead_letter: None,
            durable: true,
        })
        .await?;
    let started = Instant::now();
    let clients = (0..clients).map(|_| tokio::spawn(cycle(queue.clone(), batch, started)));
    let mut messages = 0;
    for client in join_all(clients).await {
        messages += client??;
    }
    Ok(messages as f64 / started.elapsed().as_secs_f64())
}

/// Repeatedly sends a batch, receives as many messages and deletes them. Returns the number of messages.
async fn cycle(queue: Arc<dyn Queue>, batch: usize, started: Instant) -> anyhow::Result<usize> {
    let mut done = 0;
    while started.elapsed() < TIME {
        let messages = (0..batch).map(|_| Message { body: "x".repeat(BODY).into(), ..Message::default() });
        for result in queue.send(messages.collect()).await {
            result?;
        }
        let mut receipts = Vec::with_capacity(batch);
        while receipts.len() < batch {
            let deliveries = queue.receive((batch - receipts.len()).min(10), Duration::from_secs(1)).await?;
            receipts.extend(deliveries.into_iter().map(|d| d.receipt));
        }
        for result in queue.delete(receipts).await {
            result?;
        }
        done += batch;
    }
    Ok(done)
}

//! The embedded queue through `kill -9`: no message whose send was acknowledged is lost, no message whose delete was
//! acknowledged comes back. The process that is killed is this test program, run again to send to a queue and
//! receive from it.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use rollcall::cloud::{CloudResult, Message, Queue, QueueSpec, Queues, local::Broker};
use ulid::Ulid;

/// Folder of the queue, for the process that is to be killed.
const FOLDER: &str = "ROLLCALL_TEST_QUEUE_FOLDER";
/// Number of processes that are killed.
const KILLS: usize = 6;
/// Acknowledged sends before each kill.
const SENDS: usize = 150;

fn spec(fifo: bool) -> QueueSpec {
    QueueSpec {
        name: if fifo { "jobs.fifo".into() } else { "jobs".into() },
        fifo,
        visibility: Duration::from_secs(600),
        max_receives: 1000,
        dead_letter: None,
        durable: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_sends_and_deletes_survive_kill_9() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return send_and_delete_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seen = Seen::default();
    for _ in 0..KILLS {
        seen.follow(start(folder.path()), SENDS);
        let left = what_is_left(folder.path()).await;
        let lost: Vec<_> = seen.sent.difference(&seen.delete_begun).filter(|id| !left.contains(*id)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let returned: Vec<_> = seen.deleted.iter().filter(|id| left.contains(*id)).collect();
        assert!(returned.is_empty(), "deleted, but redelivered: {returned:?}");
    }
    assert!(seen.sent.len() >= KILLS * SENDS && seen.deleted.len() > KILLS, "{} deletes", seen.deleted.len());
}

/// What the processes have reported.
#[derive(Default)]
struct Seen {
    sent: HashSet<String>,
    delete_begun: HashSet<String>,
    deleted: HashSet<String>,
}

impl Seen {
    /// Reads the reports of a process, kills it after some of them, and reads the rest.
    fn follow(&mut self, mut process: Child, sends: usize) {
        let mut out = BufReader::new(process.stdout.take().expect("a pipe"));
        let (mut line, mut acknowledged, mut killed) = (String::new(), 0, false);
        while out.read_line(&mut line).expect("a pipe") > 0 {
            // The test harness writes to the same pipe.
            if let Some((what, id)) = line.trim_end().split_once(' ').filter(|_| line.ends_with('\n')) {
                let id = id.to_owned();
                match what {
                    "sent" => {
                        acknowledged += 1;
                        self.sent.insert(id)
                    }
                    "deleting" => self.delete_begun.insert(id),
                    "deleted" => self.deleted.insert(id),
                    _ => false,
                };
            }
            if acknowledged >= sends && !killed {
                process.kill().expect("it is ours and alive");
                killed = true;
            }
            line.clear();
        }
        assert!(killed, "the process ended by itself after {acknowledged} sends: {:?}", process.wait());
        process.wait().expect("it is ours");
    }
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "queue_survives_kill::acknowledged_sends_and_deletes_survive_kill_9", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts")
}

/// Returns the ids of all messages that a new process finds.
async fn what_is_left(folder: &Path) -> HashSet<String> {
    let broker = Broker::open(folder).expect("the queue opens again");
    let mut left = HashSet::new();
    for fifo in [false, true] {
        let queue = broker.create(spec(fifo)).await.expect("a queue");
        let depth = queue.depth().await.expect("a depth").visible;
        for _ in 0..depth.div_ceil(10) {
            left.extend(
                queue.receive(10, Duration::ZERO).await.expect("a receive").into_iter().map(|d| id_of(&d.body)),
            );
        }
        assert_eq!(queue.receive(1, Duration::ZERO).await, Ok(vec![]));
    }
    left
}

/// Returns the id of a body. Bodies are an id and some kilobytes, about the size of jobs.
fn id_of(body: &[u8]) -> String {
    let text = str::from_utf8(body).expect("text");
    text.split_once(':').expect("an id and a colon").0.to_owned()
}

/// Writes a report as one line, with one write.
fn report(what: &str, id: &str) {
    std::io::stdout().write_all(format!("{what} {id}\n").as_bytes()).expect("the parent reads");
}

/// Runs several senders and several receivers on both kinds of queue.
async fn send_and_delete_until_killed(folder: &Path) {
    let broker = Arc::new(Broker::open(folder).expect("the queue opens"));
    let mut tasks = Vec::new();
    for fifo in [false, true] {
        let queue = broker.create(spec(fifo)).await.expect("a queue");
        let last = if fifo { Sending::BufferedThenResent } else { Sending::Plain };
        for sending in [Sending::Plain, Sending::Plain, Sending::BufferedThenFlush, last] {
            tasks.push(tokio::spawn(send_forever(queue.clone(), fifo, sending)));
        }
        for _ in 0..2 {
            tasks.push(tokio::spawn(delete_forever(queue.clone())));
        }
    }
    join_all(tasks).await;
}

/// How a message is sent until it is acknowledged.
#[derive(Clone, Copy)]
enum Sending {
    Plain,
    BufferedThenFlush,
    /// The second send is a duplicate, whose result applies to the first message.
    BufferedThenResent,
}

fn assert_accepted(results: Vec<CloudResult<()>>) {
    results.into_iter().for_each(|result| result.expect("accepted"));
}

async fn send_forever(queue: Arc<dyn Queue>, fifo: bool, sending: Sending) {
    loop {
        let ids: Vec<String> = (0..4).map(|_| Ulid::generate().to_string()).collect();
        let batch = ids.iter().map(|id| Message {
            body: format!("{id}:{}", "x".repeat(4_000)).into(),
            group: fifo.then(|| id.clone()),
            dedup: fifo.then(|| id.clone()),
            delay: Duration::ZERO,
        });
        let batch: Vec<Message> = batch.collect();
        match sending {
            Sending::Plain => assert_accepted(queue.send(batch).await),
            Sending::BufferedThenFlush => {
                assert_accepted(queue.send_buffered(batch).await);
                queue.flush().await.expect("flushed");
            }
            Sending::BufferedThenResent => {
                assert_accepted(queue.send_buffered(batch.clone()).await);
                assert_accepted(queue.send(batch).await);
            }
        }
        for id in &ids {
            report("sent", id);
        }
    }
}

async fn delete_forever(queue: Arc<dyn Queue>) {
    loop {
        let deliveries = queue.receive(3, Duration::from_secs(1)).await.expect("a receive");
        for delivery in &deliveries {
            report("deleting", &id_of(&delivery.body));
        }
        let results = queue.delete(deliveries.iter().map(|d| d.receipt.clone()).collect()).await;
        for (delivery, result) in deliveries.iter().zip(results) {
            result.expect("deleted");
            report("deleted", &id_of(&delivery.body));
        }
    }
}

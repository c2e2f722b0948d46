//! A queue's file that is damaged at any place is opened with all that was committed, or refused with a remedy.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    panic::AssertUnwindSafe,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use nix::sys::resource::{Resource, setrlimit};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng};
use rollcall::cloud::{
    Message, Queue, QueueSpec, Queues,
    local::{Broker, Repair, repair_queues},
};

use tempfile::TempDir;

/// Set for the process that opens the damaged files.
const CHILD: &str = "ROLLCALL_TEST_DAMAGED_JOURNALS";
/// Memory that the process may allocate, with its code, stacks and the caches of the queue.
const MAX_MEMORY: u64 = 4 << 30;
const MESSAGES: usize = 200;
/// Number of files that are tried at the same time: most of the time passes until deletes are written.
const AT_ONCE: usize = 8;

fn body(n: usize) -> Vec<u8> {
    // Some are larger than a page of the file.
    let len = if n.is_multiple_of(50) { 20_000 } else { 100 + n };
    (0..len).map(|i| (i * 31 + n * 7) as u8).collect()
}

async fn jobs(broker: &Broker) -> Result<Arc<dyn Queue>, String> {
    let dead = QueueSpec {
        name: "dead".into(),
        fifo: true,
        visibility: Duration::from_secs(3600),
        max_receives: 1000,
        dead_letter: None,
        durable: true,
    };
    let jobs = QueueSpec { name: "jobs".into(), dead_letter: Some(dead.name.clone()), ..dead.clone() };
    broker.create(dead).await.map_err(|error| error.to_string())?;
    broker.create(jobs).await.map_err(|error| error.to_string())
}

/// Writes a queue with some hundred messages, in many commits and with deletes in between. Returns the bodies that are
/// left, by group.
async fn write(folder: &Path) -> BTreeMap<usize, Vec<u8>> {
    let broker = Broker::open(folder).expect("opened");
    let queue = jobs(&broker).await.expect("a queue");
    for first in (0..MESSAGES).step_by(20) {
        let message = |n: usize| Message {
            body: body(n).into(),
            group: Some(n.to_string()),
            dedup: Some(n.to_string()),
            ..Message::default()
        };
        let sent = queue.send((first..first + 20).map(message).collect()).await;
        assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    }
    let taken = queue.receive(10, Duration::ZERO).await.expect("received");
    let deleted = queue.delete(taken.into_iter().map(|delivery| delivery.receipt).collect()).await;
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    (10..MESSAGES).map(|n| (n, body(n))).collect()
}

/// What a damaged file led to.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Whole,
    /// Refused, and then repaired: all messages are kept, some, or none.
    RepairedWhole,
    RepairedInPart,
    RepairedEmpty,
}

/// Opens the file in `folder`, receives and deletes all messages, and opens it again.
async fn use_all(folder: &Path, written: &BTreeMap<usize, Vec<u8>>) -> Result<Outcome, String> {
    let broker = match Broker::open(folder) {
        Ok(broker) => broker,
        Err(error) => {
            let error = format!("{error:#}");
            let clear = error.contains("rollcall queue repair") && !error.contains('\n');
            if !clear {
                return Err(format!("unclear: {error}"));
            }
            return repair(folder, written).await;
        }
    };
    let queue = jobs(&broker).await?;
    let (mut received, mut receipts) = (Vec::new(), Vec::new());
    loop {
        let deliveries = queue.receive(10, Duration::ZERO).await.map_err(|error| error.to_string())?;
        if deliveries.is_empty() {
            break;
        }
        received.extend(deliveries.iter().map(|delivery| delivery.body.to_vec()));
        receipts.extend(deliveries.into_iter().map(|delivery| delivery.receipt));
    }
    if let Some(error) = queue.delete(receipts).await.into_iter().find_map(Result::err) {
        return Err(format!("delete: {error}"));
    }
    if !received.iter().eq(written.values()) {
        let wrong = received.iter().filter(|body| !written.values().any(|known| known == *body)).count();
        return Err(format!("received {} of {}, and {wrong} that were never sent", received.len(), written.len()));
    }
    drop((queue, broker));
    let broker = Broker::open(folder).map_err(|error| format!("opened again: {error:#}"))?;
    let left = jobs(&broker).await?.receive(1, Duration::ZERO).await.map_err(|error| error.to_string())?;
    if left.is_empty() { Ok(Outcome::Whole) } else { Err("a deleted message is back".into()) }
}

/// Repairs a file that was refused. What is kept must be as it was sent.
async fn repair(folder: &Path, written: &BTreeMap<usize, Vec<u8>>) -> Result<Outcome, String> {
    let repaired = repair_queues(folder).map_err(|error| format!("repair: {error:#}"))?;
    let Repair { kept, aside, .. } = repaired.ok_or("the repair found no damage")?;
    fs::remove_file(aside).map_err(|error| format!("what was moved aside: {error}"))?;
    let broker = Broker::open(folder).map_err(|error| format!("opened after the repair: {error:#}"))?;
    let queue = jobs(&broker).await?;
    let mut received = Vec::new();
    while received.len() < kept {
        let deliveries = queue.receive(10, Duration::ZERO).await.map_err(|error| error.to_string())?;
        if deliveries.is_empty() {
            return Err(format!("{kept} kept, and {} received", received.len()));
        }
        received.extend(deliveries.into_iter().map(|delivery| delivery.body.to_vec()));
    }
    let mut known = written.values();
    if !received.iter().all(|body| known.any(|written| written == body)) {
        return Err(format!("{kept} kept, out of order or not as they were sent"));
    }
    match kept {
        0 => Ok(Outcome::RepairedEmpty),
        _ if kept == written.len() => Ok(Outcome::RepairedWhole),
        _ => Ok(Outcome::RepairedInPart),
    }
}

/// The damages that are tried on a file: a name, and the damaged bytes.
fn damages(whole: &[u8]) -> impl Iterator<Item = (String, Vec<u8>)> {
    let mut random = ChaCha8Rng::seed_from_u64(97);
    let places: Vec<usize> = (0..400)
        .step_by(5)
        .chain((0..whole.len()).step_by(389))
        .chain((0..100).map(|_| random.random_range(0..whole.len())))
        .collect();
    let bits: Vec<u8> = places.iter().map(|_| 1 << random.random_range(0..8)).collect();
    let flipped = places.into_iter().zip(bits).map(|(place, bit)| {
        let mut bytes = whole.to_vec();
        bytes[place] ^= bit;
        (format!("bit {bit:#x} of byte {place} flipped"), bytes)
    });
    let lengths = || (0..whole.len()).step_by(9001).chain([1, 8, 9, 63, 64, 319, 320, 4095, 4096, whole.len() - 1]);
    let truncated = lengths().map(|len| (format!("truncated to {len}"), whole[..len].to_vec()));
    let zeroed = lengths().map(|from| {
        let mut bytes = whole.to_vec();
        bytes[from..].fill(0);
        (format!("zeros from {from}"), bytes)
    });
    let pages = (0..whole.len()).step_by(4096).map(|from| {
        let mut bytes = whole.to_vec();
        let to = whole.len().min(from + 4096);
        bytes[from..to].fill(0xff);
        (format!("a page of ones at {from}"), bytes)
    });
    flipped.chain(truncated).chain(zeroed).chain(pages)
}

/// Creates a folder without a disk, where there is such a place: only the contents of files matter here.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Tries all damages, and prints each that led to neither outcome.
async fn try_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = write(folder.path()).await;
    let whole = fs::read(folder.path().join("queues.redb")).expect("a file");
    let damages = stream::iter(damages(&whole)).map(async |(damage, bytes)| {
        let folder = in_memory();
        fs::write(folder.path().join("queues.redb"), bytes).expect("written");
        println!("trying {damage}");
        let used = AssertUnwindSafe(use_all(folder.path(), &written)).catch_unwind().await;
        (damage, used.unwrap_or_else(|_| Err("panic".into())))
    });
    let mut outcomes = BTreeMap::<Outcome, usize>::new();
    for (damage, outcome) in damages.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
        match outcome {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(error) => println!("WRONG {damage}: {error}"),
        }
    }
    println!("outcomes {outcomes:?}");
}

#[test]
fn a_file_damaged_at_any_place_is_opened_whole_or_refused_with_a_remedy() {
    if std::env::var_os(CHILD).is_some() {
        setrlimit(Resource::RLIMIT_AS, MAX_MEMORY, MAX_MEMORY).expect("limited");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        return runtime.block_on(try_all());
    }
    let test = "damaged_journal::a_file_damaged_at_any_place_is_opened_whole_or_refused_with_a_remedy";
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let panics = std::thread::spawn(move || {
        stderr.lines().map_while(Result::ok).filter(|line| line.contains("panicked")).count()
    });
    let (mut last, mut wrong, mut outcomes) = (String::new(), Vec::new(), None);
    for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
        let line = line.expect("text");
        match line.split_once(' ') {
            Some(("trying", damage)) => last = damage.to_owned(),
            Some(("WRONG", what)) => wrong.push(what.to_owned()),
            Some(("outcomes", counts)) => outcomes = Some(counts.to_owned()),
            _ => {}
        }
    }
    let status = child.wait().expect("ended");
    assert!(status.success(), "{status} at: {last}");
    let panics = panics.join().expect("read");
    let some = wrong[..wrong.len().min(40)].join("\n");
    assert!(wrong.is_empty(), "{} damages, for example:\n{some}\n{outcomes:?}, {panics} panics", wrong.len());
    assert_eq!(panics, 0, "{outcomes:?}");
    let outcomes = outcomes.expect("the process has reported");
    for outcome in ["Whole", "RepairedWhole", "RepairedInPart"] {
        assert!(outcomes.contains(outcome), "{outcomes}");
    }
}

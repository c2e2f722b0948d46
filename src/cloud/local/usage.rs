//! Reads how many jobs and bytes the embedded cloud has, off the threads that serve clients.
//!
//! The sizes of files come from walks through the data folder. They are not counted as objects are put and deleted,
//! because workers and commands do so in processes of their own, and counts that miss a change once stay wrong. A walk
//! takes at most a twentieth of a core, in small steps and with constant memory, so a million objects take minutes and
//! disturb nobody; a small folder is walked in milliseconds. Between walks, the size of the folder follows the use of the
//! whole disk, which is one call. If other programs write to the same disk, the size is inexact until the next walk.

use std::{
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use walkdir::WalkDir;

use crate::cloud::{
    Queue,
    headroom::{DiskUsage, Headroom, Limits, Reading, Usage},
};

/// How often the jobs in the queue are counted, which takes microseconds.
const COUNT_EVERY: Duration = Duration::from_millis(250);
/// How often the disk is asked how many of its bytes are free.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Pause between walks if only the metrics depend on them.
const WALK_EVERY: Duration = Duration::from_secs(30);
/// Pause between walks if a limit depends on them.
const WALK_OFTEN: Duration = Duration::from_secs(1);
/// Files and folders in a step of a walk: about a millisecond.
const STEP: usize = 256;
/// After each step, a walk pauses for this many times as long as the step took.
const IDLE_SHARE: u32 = 19;
/// Size of the blocks in which the system counts the allocated bytes of a file.
const BLOCK: u64 = 512;

/// The bytes of a disk.
#[derive(Clone, Copy, Debug)]
struct Disk {
    /// Bytes that this user may still write.
    free: u64,
    /// Bytes that are in use.
    used: u64,
}

/// Returns how many bytes of the disk of a folder this user may still write.
///
/// # Errors
/// Any error of the file system.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    Ok(Disk::of(folder)?.free)
}

impl Disk {
    fn of(folder: &Path) -> io::Result<Self> {
        let stat = nix::sys::statvfs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Ok(Self { free: bytes(stat.blocks_available()), used: bytes(stat.blocks().saturating_sub(stat.blocks_free())) })
    }
}

/// The result of a walk.
#[derive(Clone, Copy, Debug)]
struct Walked {
    usage: DiskUsage,
    /// Bytes of the disk in use when the walk began. What was written during the walk may be counted twice until the
    /// next one, and nothing is missed.
    used: Option<u64>,
}

impl Walked {
    /// Returns the size of the folder when `used` bytes of the disk are in use.
    fn size(&self, used: Option<u64>) -> u64 {
        let change = self.used.zip(used).map_or(0, |(before, now)| now as i64 - before as i64);
        self.usage.total().saturating_add_signed(change)
    }
}

/// Starts to read, for as long as the returned headroom or a clone of it exists. Jobs and free bytes have been read once
/// on return, so that a node that starts on a full disk does not accept anything first.
pub(super) async fn monitor(folder: PathBuf, limits: Limits, requests: Arc<dyn Queue>) -> Headroom {
    let readings = watch::Sender::new(Reading::default());
    let headroom = Headroom::new(readings.subscribe());
    let walked = watch::Sender::new(None);
    let mut monitor = Monitor { folder: folder.clone(), limits, requests, readings, walked: walked.subscribe() };
    let (mut jobs, mut disk) = (monitor.count().await, monitor.ask().await);
    monitor.publish(jobs, disk);
    tokio::spawn(async move {
        let often = if limits.max_bytes > 0 { WALK_OFTEN } else { WALK_EVERY };
        let gone = monitor.readings.clone();
        tokio::select! {
            () = gone.closed() => {}
            () = walk_again_and_again(folder, often, walked) => {}
            () = async {
                let (mut count, mut ask) = (interval(COUNT_EVERY), interval(ASK_EVERY));
                count.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        _ = count.tick() => jobs = monitor.count().await.or(jobs),
                        _ = ask.tick() => disk = monitor.ask().await.or(disk),
                    }
                    monitor.publish(jobs, disk);
                }
            } => {}
        }
    });
    headroom
}

struct Monitor {
    folder: PathBuf,
    limits: Limits,
    requests: Arc<dyn Queue>,
    readings: watch::Sender<Reading>,
    walked: watch::Receiver<Option<Walked>>,
}

impl Monitor {
    async fn count(&self) -> Option<u64> {
        self.requests.depth().await.ok().map(|depth| depth.total()) // /readyz and uploads report the error
    }

    async fn ask(&self) -> Option<Disk> {
        let folder = self.folder.clone();
        let disk = spawn_blocking(move || Disk::of(&folder)).await.ok()?; // the runtime is ending
        disk.inspect_err(|error| tracing::warn!(%error, "cannot read how much of the disk is free")).ok()
    }

    fn publish(&mut self, jobs: Option<u64>, disk: Option<Disk>) {
        let walked = *self.walked.borrow();
        let (free, used) = (disk.map(|disk| disk.free), disk.map(|disk| disk.used));
        let usage = Usage { jobs, bytes: walked.map(|walked| walked.size(used)), free };
        let shortage = self.limits.shortage(usage);
        let before = self.readings.borrow().shortage;
        match shortage {
            Some(why) if before != shortage => tracing::warn!(?usage, "uploads are refused: {why}"),
            None if before.is_some() => tracing::info!(?usage, "uploads are accepted again"),
            _ => {}
        }
        self.readings.send_replace(Reading { shortage, disk: walked.map(|walked| walked.usage), free });
    }
}

async fn walk_again_and_again(folder: PathBuf, pause: Duration, walked: watch::Sender<Option<Walked>>) {
    loop {
        if let Some(done) = walk(folder.clone()).await {
            walked.send_replace(Some(done));
        }
        sleep(pause).await;
    }
}

/// Walks through a folder; `None` if the threads that may block do not finish it, because the process ends.
async fn walk(folder: PathBuf) -> Option<Walked> {
    let mut usage = DiskUsage::default();
    let root = folder.clone();
    let used = spawn_blocking(move || Disk::of(&root)).await.ok()?.ok().map(|disk| disk.used);
    let mut entries = WalkDir::new(&folder).into_iter();
    loop {
        let root = folder.clone();
        let began = Instant::now();
        let (rest, counted, ended) = spawn_blocking(move || {
            let ended = step(&mut entries, &root, &mut usage);
            (entries, usage, ended)
        })
        .await
        .ok()?;
        (entries, usage) = (rest, counted);
        if ended {
            return Some(Walked { usage, used });
        }
        sleep(began.elapsed() * IDLE_SHARE).await;
    }
}

/// Adds the next entries of a walk. Returns whether there are no more.
fn step(entries: &mut walkdir::IntoIter, root: &Path, usage: &mut DiskUsage) -> bool {
    for _ in 0..STEP {
        let Some(entry) = entries.next() else { return true };
        let counted = entry.and_then(|entry| {
            let bytes = entry.metadata()?.blocks() * BLOCK;
            *kind(usage, entry.path().strip_prefix(root).unwrap_or(entry.path())) += bytes;
            Ok(())
        });
        if let Err(error) = counted
            && error.io_error().is_none_or(|error| error.kind() != ErrorKind::NotFound)
        {
            tracing::warn!(%error, "the sizes in the data folder are incomplete"); // not deleted meanwhile
        }
    }
    false
}

/// Returns the sum to which a path in the data folder belongs.
fn kind<'a>(usage: &'a mut DiskUsage, path: &Path) -> &'a mut u64 {
    match path.iter().next().and_then(|name| name.to_str()).unwrap_or_default() {
        "objects" | "unfinished" => &mut usage.objects,
        "index" => &mut usage.indexes,
        name if name.starts_with("queues.redb") => &mut usage.queue,
        name if name.starts_with("audit") || name.starts_with("fleet.jsonl") => &mut usage.logs,
        _ => &mut usage.other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_walk_counts_every_file_by_its_kind_in_steps() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let before = walk(folder.path().to_owned()).await.expect("walked").usage;
        assert_eq!((before.queue, before.objects, before.indexes, before.logs), (0, 0, 0, 0));
        fs::create_dir_all(folder.path().join("objects/input/a")).expect("created");
        for n in 0..2 * STEP {
            fs::write(folder.path().join(format!("objects/input/a/{n}")), b"x").expect("written");
        }
        fs::create_dir(folder.path().join("index")).expect("created");
        for file in ["queues.redb", "index/default-3.index", "audit-2026-11-30.jsonl", "fleet.jsonl", "elsewhere"] {
            fs::write(folder.path().join(file), vec![7; 64 << 10]).expect("written");
        }
        let walked = walk(folder.path().to_owned()).await.expect("walked");
        let (size, usage) = (64 << 10, walked.usage);
        // File systems may allocate more than a file has, and folders count as well.
        assert!((size..2 * size).contains(&usage.queue), "{usage:?}");
        assert!((2 * size..3 * size).contains(&usage.logs), "{usage:?}");
        assert!((size..2 * size).contains(&usage.indexes), "{usage:?}");
        assert!((size..2 * size).contains(&usage.other), "{usage:?}");
        assert!(usage.objects >= 2 * STEP as u64 * BLOCK, "{usage:?}");
        assert_eq!(walked.size(walked.used.map(|used| used + 5)), usage.total() + 5, "follows the disk until the next");
    }
}

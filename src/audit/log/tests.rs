//! Entries are written in order, changes wait for theirs, and a log that cannot be written stops nobody who only looks.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::{access::Role, testing::World};

/// Lines in memory, on a disk that may be full or never answer.
#[derive(Default)]
struct Disk {
    lines: Mutex<Vec<String>>,
    full: AtomicBool,
    hangs: AtomicBool,
}

impl Disk {
    fn lines(&self) -> Vec<Entry> {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().map(|line| serde_json::from_str(line).expect("an entry")).collect()
    }

    fn actions(&self) -> Vec<String> {
        self.lines().into_iter().map(|entry| entry.action).collect()
    }
}

#[async_trait]
impl Lines for Disk {
    async fn append(&self, lines: String, _: u64) -> CloudResult<()> {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.full.load(Ordering::SeqCst) {
            return Err(CloudError::Unavailable("the disk is full".into()));
        }
        self.lines.lock().expect("no panic").extend(lines.lines().map(str::to_owned));
        Ok(())
    }

    async fn since(&self, _: u64) -> CloudResult<Vec<String>> {
        Ok(self.lines.lock().expect("no panic").clone())
    }

    async fn expire(&self, _: u64) -> CloudResult<()> {
        Ok(())
    }

    fn linger(&self) -> Duration {
        Duration::from_secs(5)
    }
}

async fn started(disk: &Arc<Disk>) -> AuditLog {
    let world = World::new().await;
    let pseudonyms = Pseudonyms::open(&*world.objects, &world.settings.store.state).await.expect("a key");
    AuditLog::start(disk.clone(), pseudonyms, None)
}

fn entry(action: &str) -> Entry {
    Entry::new(0, Actor::Token { id: "a".into(), role: Role::Admin }, action, Outcome::Begun)
}

#[tokio::test]
async fn a_change_waits_for_its_entry_and_takes_along_what_waits_longer() {
    let disk = Arc::<Disk>::default();
    let log = started(&disk).await;
    log.record(entry("look"));
    log.written(entry("change")).await.expect("written");
    assert_eq!(disk.actions(), ["look", "change"]);
    log.record(entry("another look"));
    log.flush().await;
    assert_eq!(disk.actions(), ["look", "change", "another look"]);
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_what_was_looked_at_is_written_later() {
    let disk = Arc::<Disk>::default();
    let log = started(&disk).await;
    disk.full.store(true, Ordering::SeqCst);
    log.record(entry("look"));
    assert_eq!(log.written(entry("refused")).await, Err(NotAudited));
    log.record(entry("second look"));
    disk.full.store(false, Ordering::SeqCst);
    log.written(entry("change")).await.expect("written");
    assert_eq!(disk.actions(), ["look", "second look", "change"], "what is not done is not in the log");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_delays_changes_by_seconds_and_looks_not_at_all() {
    let disk = Arc::<Disk>::default();
    let log = started(&disk).await;
    disk.hangs.store(true, Ordering::SeqCst);
    let began = Instant::now();
    assert_eq!(log.written(entry("refused")).await, Err(NotAudited));
    assert!(began.elapsed() <= PATIENCE);
    let began = Instant::now();
    for _ in 0..2 * MAX_WAITING {
        log.record(entry("look"));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(log.dropping.load(Ordering::SeqCst), "entries are dropped, not kept without a limit");
}

#[tokio::test]
async fn an_entry_with_many_people_is_divided() {
    let disk = Arc::<Disk>::default();
    let log = started(&disk).await;
    let gallery = GalleryName::default();
    let people: Vec<Pseudonym> = (0..2_500).map(|n| log.pseudonym(&gallery, &n.to_string())).collect();
    log.written(Entry { people: people.clone(), ..entry("enroll") }).await.expect("written");
    let lines = disk.lines();
    assert_eq!(lines.iter().map(|entry| entry.people.len()).collect::<Vec<_>>(), [1_000, 1_000, 500]);
    assert_eq!(lines.into_iter().flat_map(|entry| entry.people).collect::<Vec<_>>(), people);
}

#[tokio::test]
async fn a_command_is_not_begun_without_its_entry_and_its_end_is_written() {
    let disk = Disk::default();
    let done = audited(&disk, entry("enroll"), async { Ok(7) }).await;
    assert_eq!(done.expect("done"), 7);
    let failed: anyhow::Result<()> = audited(&disk, entry("remove"), async { anyhow::bail!("nobody") }).await;
    assert_eq!(failed.expect_err("failed").to_string(), "nobody");
    let outcomes: Vec<Outcome> = disk.lines().into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes, [Outcome::Begun, Outcome::Done, Outcome::Begun, Outcome::Failed]);
    disk.full.store(true, Ordering::SeqCst);
    let mut begun = false;
    let refused = audited(&disk, entry("enroll"), async {
        begun = true;
        Ok(())
    });
    assert!(refused.await.expect_err("refused").to_string().contains("audit log"));
    assert!(!begun);
}

//! After a renewal, what was deleted is nowhere in the file, and what was not is complete.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use proptest::prelude::*;
use tokio::sync::oneshot;

use crate::cloud::{
    CloudResult,
    local::journal::{
        Journal, JournalFile, StoredMessage, now,
        pending::{LINGER, Pending, Put},
    },
};

const MS: Duration = Duration::from_millis(1);
/// Number of messages, with bodies from a few bytes to the largest that photos are sent in.
const MESSAGES: u64 = 40;

fn message() -> StoredMessage {
    StoredMessage { receives: 0, visible_at: 0, group: Some("g".into()), dedup: None }
}

/// Returns a body whose every 64 bytes name its message.
fn body(seq: u64) -> Bytes {
    let length = if seq.is_multiple_of(2) { 100 } else { 180 << 10 };
    format!("<photo of message {seq:06}>").repeat(length / 20).into()
}

fn renew(journal: &Journal) -> CloudResult<()> {
    let copying = journal.file.begin_copy(now(), || {})?.expect("a file");
    journal.file.replace(copying)
}

fn is_in(file: &[u8], seq: u64) -> bool {
    let needle = format!("message {seq:06}");
    file.windows(needle.len()).any(|part| part == needle.as_bytes())
}

struct Folder {
    folder: tempfile::TempDir,
    jobs: Arc<str>,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), jobs: "jobs".into() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("queues.redb")
    }

    fn file(&self) -> Vec<u8> {
        fs::read(self.path()).expect("the file")
    }

    /// Puts all messages and deletes every third, all durable on return.
    async fn filled(&self) -> Journal {
        let journal = Journal::open(&self.path()).expect("a journal");
        let puts: Vec<_> = (1..=MESSAGES).map(|seq| journal.put(&self.jobs, seq, message(), body(seq))).collect();
        for put in puts {
            put.await.expect("answered").expect("durable");
        }
        let deletes: Vec<_> =
            (1..=MESSAGES).filter(|seq| seq.is_multiple_of(3)).map(|seq| journal.delete(&self.jobs, seq)).collect();
        for delete in deletes {
            delete.await.expect("answered").expect("durable");
        }
        journal
    }

    fn check(&self, journal: &Journal) -> CloudResult<()> {
        let left: Vec<u64> = journal.messages("jobs")?.into_iter().map(|(seq, _)| seq).collect();
        assert_eq!(left, (1..=MESSAGES).filter(|seq| !seq.is_multiple_of(3)).collect::<Vec<_>>());
        for seq in left {
            assert!(journal.body("jobs", seq)?.is_some_and(|stored| stored == body(seq)), "message {seq}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn deleted_messages_are_nowhere_in_the_file_after_a_renewal() {
    let folder = Folder::new();
    let journal = folder.filled().await;
    let file = folder.file();
    assert!((1..=MESSAGES).any(|seq| seq.is_multiple_of(3) && is_in(&file, seq)), "the database itself leaves them");
    renew(&journal).expect("renewed");
    let file = folder.file();
    for seq in 1..=MESSAGES {
        assert_eq!(is_in(&file, seq), !seq.is_multiple_of(3), "message {seq}");
    }
    folder.check(&journal).expect("read");
    // The new file is used from now on.
    journal.put(&folder.jobs, 100, message(), body(100)).await.expect("answered").expect("durable");
    journal.delete(&folder.jobs, 100).await.expect("answered").expect("durable");
    drop(journal);
    assert!(!is_in(&folder.file(), 100), "it is renewed when it is closed");
    folder.check(&Journal::open(&folder.path()).expect("opened")).expect("read");
}

#[tokio::test]
async fn a_renewal_that_was_interrupted_loses_nothing_and_leaves_no_second_file() {
    let folder = Folder::new();
    let journal = folder.filled().await;
    let before = folder.file();
    drop(journal);
    // Killed while the new file was written: the old one is complete.
    fs::write(folder.path(), before).expect("written");
    fs::write(unfinished(&folder.path()), body(3)).expect("written");
    let journal = Journal::open(&folder.path()).expect("opened");
    assert!(!unfinished(&folder.path()).exists());
    folder.check(&journal).expect("read");
}

#[tokio::test]
async fn a_renewal_that_fails_leaves_the_journal_as_it_is() {
    let folder = Folder::new();
    let journal = folder.filled().await;
    // A folder cannot be replaced by a file.
    fs::create_dir(unfinished(&folder.path())).expect("created");
    renew(&journal).expect_err("the new file cannot be created");
    folder.check(&journal).expect("read");
    journal.put(&folder.jobs, 100, message(), body(100)).await.expect("answered").expect("durable");
    fs::remove_dir(unfinished(&folder.path())).expect("removed");
    renew(&journal).expect("renewed");
    assert!(journal.body("jobs", 100).expect("read").is_some());
}

#[test]
fn a_file_is_renewed_within_seconds_of_a_deletion_and_takes_a_small_part_of_the_time() {
    let start = now();
    let mut schedule = Schedule::new(start);
    assert_eq!(schedule.due(), Some(start + RENEW_AFTER), "nobody knows what was deleted before");
    schedule.began();
    schedule.renewed(start, start + 10 * MS);
    assert_eq!(schedule.due(), None, "nothing is deleted");
    schedule.deleted(start + 20 * MS);
    schedule.deleted(start + 500 * MS);
    assert_eq!(schedule.due(), Some(start + 20 * MS + RENEW_AFTER), "the first deletion counts");

    let long = Duration::from_secs(30);
    schedule.began();
    schedule.deleted(start + MS);
    schedule.renewed(start, start + long);
    assert_eq!(
        schedule.due(),
        Some(start + 11 * long),
        "what was deleted meanwhile waits after a renewal that took long"
    );
    schedule.began();
    schedule.failed(start + 100 * long);
    assert_eq!(schedule.due(), Some(start + 100 * long + RETRY_AFTER), "it is tried again");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64),
    Delete(u64),
    /// Moves a message to the other queue.
    Move(u64),
    Count(u64),
    Commit,
    BeginCopy,
    Replace,
    Cancel,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seq = 1..12_u64;
    let step = prop_oneof![
        4 => seq.clone().prop_map(Step::Put),
        3 => seq.clone().prop_map(Step::Delete),
        2 => seq.clone().prop_map(Step::Move),
        2 => seq.prop_map(Step::Count),
        5 => Just(Step::Commit),
        2 => Just(Step::BeginCopy),
        2 => Just(Step::Replace),
        1 => Just(Step::Cancel),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A file, changes that wait, and what the file must contain: the queue, the receives and the body by position.
struct Model {
    folder: Folder,
    file: JournalFile,
    pending: Pending,
    copying: Option<Copying>,
    stored: std::collections::BTreeMap<u64, (Arc<str>, u32)>,
    /// The position of the next message; positions are never used again.
    next: u64,
    /// Positions by what the steps call them.
    named: std::collections::BTreeMap<u64, u64>,
    /// What was deleted before the copy that is being made, or that was made last, began.
    gone: Vec<u64>,
    deleted: Vec<u64>,
}

impl Model {
    fn new() -> Self {
        let folder = Folder::new();
        let path = folder.path();
        let open = Box::new(move |builder: &redb::Builder| tables::open(builder, &path));
        let file = JournalFile::open(open, Some(folder.path())).expect("a file");
        let (pending, copying, stored) = (Pending::default(), None, Default::default());
        Self {
            folder,
            file,
            pending,
            copying,
            stored,
            next: 1,
            named: Default::default(),
            gone: vec![],
            deleted: vec![],
        }
    }

    fn put(&self, queue: &str, seq: u64, receives: u32) -> Put {
        let message = StoredMessage { receives, ..message() };
        let body = format!("message {seq:06}").repeat(60).into();
        Put::new(queue.into(), message, body, now(), LINGER)
    }

    fn commit(&mut self) {
        self.pending.close(); // everything is due
        while !self.pending.is_empty() {
            let changes = self.pending.take(now());
            self.file.commit(&changes).expect("committed");
            if let Some(copying) = &mut self.copying {
                copying.note(&changes);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put(name) => {
                let seq = self.next;
                self.next += 1;
                self.pending.put(seq, self.put("jobs", seq, 0));
                if let Some(earlier) = self.named.insert(*name, seq) {
                    self.delete(earlier);
                }
                self.stored.insert(seq, ("jobs".into(), 0));
            }
            Step::Delete(name) => {
                if let Some(seq) = self.named.remove(name) {
                    self.delete(seq);
                }
            }
            Step::Move(name) => {
                let Some(seq) = self.named.get_mut(name) else { return };
                let (from, to) = (*seq, self.next);
                *seq = to;
                self.next += 1;
                let (queue, _) = self.stored.remove(&from).expect("stored");
                self.pending.replace((queue, from), to, self.put("dead", to, 0));
                self.stored.insert(to, ("dead".into(), 0));
                self.deleted.push(from);
            }
            Step::Count(name) => {
                let Some(seq) = self.named.get(name) else { return };
                let (queue, receives) = self.stored.get_mut(seq).expect("stored");
                *receives += 1;
                self.pending.count_receives((queue.clone(), *seq), *receives, now());
            }
            Step::Commit => self.commit(),
            Step::BeginCopy => {
                if self.copying.is_none() {
                    self.commit();
                    self.gone = self.deleted.clone();
                    self.copying = self.file.begin_copy(now(), || {}).expect("begun");
                }
            }
            Step::Replace => {
                if let Some(copying) = self.copying.take() {
                    self.file.replace(copying).expect("replaced");
                    let file = self.folder.file();
                    for &seq in &self.gone {
                        assert!(!is_in(&file, seq), "message {seq} was deleted before the copy began");
                    }
                }
            }
            Step::Cancel => {
                self.copying = None;
                assert!(!unfinished(&self.folder.path()).exists());
            }
        }
    }

    fn delete(&mut self, seq: u64) {
        let (queue, _) = self.stored.remove(&seq).expect("stored");
        self.pending.delete((queue, seq), oneshot::channel().0, now());
        self.deleted.push(seq);
    }

    fn check(mut self) {
        self.commit();
        self.step(&Step::Replace);
        let mut found = std::collections::BTreeMap::new();
        for queue in ["jobs", "dead"] {
            for (seq, message) in self.file.messages(queue).expect("read") {
                let body = self.file.body(queue, seq).expect("read").expect("a body");
                assert_eq!(body, self.put(queue, seq, 0).body, "message {seq}");
                found.insert(seq, (Arc::from(queue), message.receives));
            }
        }
        assert_eq!(found, self.stored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_committed_while_a_copy_is_made_is_in_the_new_file(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.check();
    }
}

//! After a renewal, what was deleted is nowhere in the file, and what was not is complete.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::cloud::{
    CloudResult,
    local::journal::{Journal, StoredMessage},
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
    journal.file.renew().expect("renewed");
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
    journal.file.renew().expect_err("the new file cannot be created");
    folder.check(&journal).expect("read");
    journal.put(&folder.jobs, 100, message(), body(100)).await.expect("answered").expect("durable");
    fs::remove_dir(unfinished(&folder.path())).expect("removed");
    journal.file.renew().expect("renewed");
    assert!(journal.body("jobs", 100).expect("read").is_some());
}

#[test]
fn a_file_is_renewed_within_seconds_of_a_deletion_and_takes_a_small_part_of_the_time() {
    #[expect(clippy::disallowed_methods, reason = "there is no other way to create an instant")]
    let start = Instant::now();
    let mut schedule = Schedule::new(start);
    assert_eq!(schedule.due(), Some(start + RENEW_AFTER), "nobody knows what was deleted before");
    schedule.renewed(start, start + 10 * MS);
    assert_eq!(schedule.due(), None, "nothing is deleted");
    schedule.deleted(start + 20 * MS);
    schedule.deleted(start + 500 * MS);
    assert_eq!(schedule.due(), Some(start + 20 * MS + RENEW_AFTER), "the first deletion counts");

    let long = Duration::from_secs(2);
    schedule.renewed(start, start + long);
    schedule.deleted(start + long);
    assert_eq!(schedule.due(), Some(start + long + 50 * long), "after a renewal that took long");
    schedule.failed(start + 100 * long);
    assert_eq!(schedule.due(), Some(start + 100 * long + RETRY_AFTER), "it is tried again");
}

//! After a full disk, the journal heals by itself, and what was accepted is not lost.

use super::{disk::Disk, *};

impl Disk {
    fn journal(&self) -> Journal {
        Journal::open_with(self.opener(), None).expect("opened")
    }

    fn messages(&self) -> Vec<Seq> {
        self.journal().messages("jobs").expect("read").into_iter().map(|(seq, _)| seq).collect()
    }
}

fn message() -> StoredMessage {
    StoredMessage { receives: 0, visible_at: 0, group: Some("g".into()), dedup: None }
}

fn put(journal: &Journal, seq: Seq) -> oneshot::Receiver<CloudResult<()>> {
    journal.put(&Arc::from("jobs"), seq, message(), Bytes::from_static(b"body"))
}

async fn healed(journal: &Journal) {
    while journal.check().is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_journal_accepts_messages_again_when_a_full_disk_has_room() {
    let disk = Disk::default();
    let journal = disk.journal();
    put(&journal, 1).await.expect("answered").expect("durable");
    disk.fill(true);
    put(&journal, 2).await.expect("answered").expect_err("the disk is full");
    journal.check().expect_err("no more is accepted");
    journal.flush().await.expect("answered").expect_err("nothing becomes durable");
    disk.fill(false);
    healed(&journal).await;
    put(&journal, 3).await.expect("answered").expect("durable");
    assert_eq!(journal.body("jobs", 1).expect("read").expect("a body"), "body");
    drop(journal);
    assert_eq!(disk.messages(), [1, 3], "a message that was refused is not written later");
    assert!(disk.opened() > 2, "the database was opened again");
}

#[tokio::test]
async fn what_was_accepted_before_the_disk_was_full_is_written_when_it_has_room() {
    let disk = Disk::default();
    let journal = disk.journal();
    let jobs: Arc<str> = Arc::from("jobs");
    for seq in 1..=4 {
        put(&journal, seq).await.expect("answered").expect("durable");
    }
    journal.put_buffered(&jobs, 5, message(), Bytes::from_static(b"body"));
    disk.fill(true);
    journal.flush().await.expect("answered").expect_err("the disk is full");
    journal.delete(&jobs, 1).await.expect("answered").expect_err("the disk is full");
    journal.count_receives(&jobs, 2, 3);
    journal.replace((&jobs, 3), (&Arc::from("dead"), 6), message(), Bytes::from_static(b"body"));
    journal.flush().await.expect("answered").expect_err("the disk is still full");
    disk.fill(false);
    healed(&journal).await;
    journal.flush().await.expect("answered").expect("durable");
    drop(journal);
    let journal = disk.journal();
    let stored = journal.messages("jobs").expect("read");
    assert_eq!(stored.iter().map(|(seq, m)| (*seq, m.receives)).collect::<Vec<_>>(), [(2, 3), (4, 0), (5, 0)]);
    assert_eq!(journal.messages("dead").expect("read").len(), 1);
}

#[tokio::test]
async fn damage_that_is_found_later_is_reported_once_and_ends_all_use() {
    let disk = Disk::default();
    let journal = disk.journal();
    for seq in 1..=3 {
        put(&journal, seq).await.expect("answered").expect("durable");
    }
    drop(journal);
    let journal = disk.journal();
    let mut damage = journal.damage();
    assert_eq!(*damage.borrow_and_update(), None);
    let bytes = disk.bytes().len();
    disk.bytes()[4096..bytes].fill(0xff);
    put(&journal, 4).await.expect("answered").expect_err("the file is damaged");
    damage.changed().await.expect("the journal is open");
    assert!(damage.borrow_and_update().is_some());
    journal.check().expect_err("no more is accepted");
    journal.messages("jobs").expect_err("nothing is read any more");
    journal.flush().await.expect("answered").expect_err("nothing becomes durable");
    assert!(!damage.has_changed().expect("the journal is open"), "it is reported once");
}

#[tokio::test]
async fn a_message_that_is_not_what_was_written_is_never_delivered() {
    let disk = Disk::default();
    let journal = disk.journal();
    let body = Bytes::from(vec![7; 3000]);
    let written = journal.put(&Arc::from("jobs"), 1, message(), body);
    written.await.expect("answered").expect("durable");
    drop(journal);
    {
        let mut bytes = disk.bytes();
        let places: Vec<usize> = (0..bytes.len() - 8).filter(|&at| bytes[at..at + 8] == [7; 8]).collect();
        places.into_iter().for_each(|at| bytes[at] = 8);
    }
    // Without the verification of the whole file, which would notice it before.
    let db = tables::builder(false).create_with_backend(disk.clone()).expect("opened");
    let error = tables::body(&db, "jobs", 1).expect_err("it is damaged");
    assert!(matches!(error, redb::Error::Corrupted(_)), "{error}");
}

#[tokio::test]
async fn a_journal_that_closes_on_a_full_disk_does_not_wait_for_room() {
    let disk = Disk::default();
    let journal = disk.journal();
    disk.fill(true);
    journal.put_buffered(&Arc::from("jobs"), 1, message(), Bytes::from_static(b"body"));
    drop(journal);
    disk.fill(false);
    assert_eq!(disk.messages(), [0; 0]);
}

//! The changes that wait for the writer, and when each of them is written. Pure: time is passed in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::cloud::{CloudError, CloudResult, local::queue_index::Seq};

/// Maximum number of messages that one commit writes.
const MAX_PUTS: usize = 64;
/// How long a message lingers if its sender waits for the commit, so that others share the commit.
pub(super) const LINGER: Duration = Duration::from_millis(2);
/// How long deletes and counts of receives linger: no client waits for them, and most share a message's commit.
const LAZY_LINGER: Duration = Duration::from_millis(50);
/// How long a buffered message lingers; most are deleted before that, and never written, even when a queue is some
/// seconds long.
pub(super) const BUFFERED_LINGER: Duration = Duration::from_secs(5);

/// What is stored of a message, besides its body.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cloud::local) struct StoredMessage {
    pub(in crate::cloud::local) receives: u32,
    /// Milliseconds since the epoch.
    pub(in crate::cloud::local) visible_at: u64,
    pub(in crate::cloud::local) group: Option<String>,
    pub(in crate::cloud::local) dedup: Option<String>,
}

/// Where the result of a commit goes.
pub(super) type Answer = oneshot::Sender<CloudResult<()>>;
/// A message by its queue and position.
pub(super) type Key = (Arc<str>, Seq);

/// A message to write.
pub(super) struct Put {
    pub(super) queue: Arc<str>,
    pub(super) message: StoredMessage,
    pub(super) body: Bytes,
    /// Deleted by the commit that writes this message, so that a message that moves is never lost and never in two
    /// queues.
    pub(super) replaces: Option<Key>,
    pub(super) answer: Option<Answer>,
    due: Instant,
}

impl Put {
    /// Creates a message that is to be written `linger` from now.
    pub(super) fn new(queue: Arc<str>, message: StoredMessage, body: Bytes, now: Instant, linger: Duration) -> Self {
        Self { queue, message, body, replaces: None, answer: None, due: now + linger }
    }
}

/// Changes by position. A position belongs to one message in one queue.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) puts: BTreeMap<Seq, Put>,
    pub(super) deletes: BTreeMap<Seq, (Arc<str>, Answer)>,
    pub(super) receives: BTreeMap<Seq, (Arc<str>, u32)>,
    /// Answered when every pending message has been written.
    pub(super) flushes: Vec<Answer>,
}

impl Changes {
    /// Returns whether messages are deleted that may have been written.
    pub(super) fn deletes_stored(&self) -> bool {
        !self.deletes.is_empty() || self.puts.values().any(|put| put.replaces.is_some())
    }

    /// Returns the messages that are changed.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let puts = self.puts.iter().map(|(&seq, put)| (put.queue.clone(), seq));
        let replaced = self.puts.values().filter_map(|put| put.replaces.clone());
        let deletes = self.deletes.iter().map(|(&seq, (queue, _))| (queue.clone(), seq));
        let receives = self.receives.iter().map(|(&seq, (queue, _))| (queue.clone(), seq));
        puts.chain(replaced).chain(deletes).chain(receives)
    }

    /// Tells all who wait that the changes are durable.
    pub(super) fn succeed(self) {
        self.answer(&Ok(()));
    }

    /// Tells all who wait that the changes were not written, and never will be.
    pub(super) fn fail(self, error: &CloudError) {
        self.answer(&Err(error.clone()));
    }

    fn answer(self, result: &CloudResult<()>) {
        let puts = self.puts.into_values().filter_map(|put| put.answer);
        let deletes = self.deletes.into_values().map(|(_, answer)| answer);
        for answer in puts.chain(deletes).chain(self.flushes) {
            let _ = answer.send(result.clone()); // the caller may have stopped waiting
        }
    }
}

/// What the writer will do next.
#[derive(Default)]
pub(super) struct Pending {
    changes: Changes,
    due: Option<Instant>,
    closing: bool,
}

impl Pending {
    /// Returns the number of changes.
    pub(super) fn len(&self) -> usize {
        self.changes.puts.len() + self.changes.deletes.len() + self.changes.receives.len()
    }

    /// Returns when the writer must commit, if there is anything to write.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes everything due at once, because the journal is being closed.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Returns whether the journal is being closed.
    pub(super) fn closing(&self) -> bool {
        self.closing
    }

    /// Returns whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.changes.flushes.is_empty()
    }

    /// Adds a message.
    pub(super) fn put(&mut self, seq: Seq, put: Put) {
        self.due_by(put.due);
        self.changes.puts.insert(seq, put);
    }

    /// Adds a delete. A message that has not been written yet is dropped, and is never written.
    pub(super) fn delete(&mut self, (queue, seq): Key, answer: Answer, now: Instant) {
        self.changes.receives.remove(&seq);
        let Some(unwritten) = self.changes.puts.remove(&seq) else {
            self.changes.deletes.insert(seq, (queue, answer));
            return self.due_by(now + LAZY_LINGER);
        };
        if let Some(sender) = unwritten.answer {
            let _ = sender.send(Ok(())); // it may have stopped waiting
        }
        match unwritten.replaces {
            Some(replaced) => self.delete(replaced, answer, now),
            None => drop(answer.send(Ok(()))),
        }
    }

    /// Adds a message that replaces another one, possibly in another queue, in the same commit.
    pub(super) fn replace(&mut self, (queue, seq): Key, new_seq: Seq, mut new: Put) {
        self.changes.receives.remove(&seq);
        match self.changes.puts.remove(&seq) {
            Some(unwritten) => {
                new.replaces = unwritten.replaces;
                new.answer = unwritten.answer; // the sender's message is durable as soon as the new one is
            }
            None => new.replaces = Some((queue, seq)),
        }
        self.put(new_seq, new);
    }

    /// Adds a new count of receives.
    pub(super) fn count_receives(&mut self, (queue, seq): Key, receives: u32, now: Instant) {
        match self.changes.puts.get_mut(&seq) {
            Some(put) => put.message.receives = receives,
            None => {
                self.changes.receives.insert(seq, (queue, receives));
                self.due_by(now + LAZY_LINGER);
            }
        }
    }

    /// Makes all messages due; `answer` is sent when they are written.
    pub(super) fn flush(&mut self, answer: Answer, now: Instant) {
        self.changes.flushes.push(answer);
        self.due_by(now + LINGER);
    }

    /// Takes back changes that could not be written, to be tried again at `retry_at`, unless later changes supersede
    /// them. All who wait get the error. A message whose sender waits is dropped, because the sender tries again; a
    /// delete is not, because its message is no longer in the index.
    pub(super) fn put_back(&mut self, failed: Changes, error: &CloudError, retry_at: Instant) {
        let mut refused = Changes { flushes: failed.flushes, ..Changes::default() };
        refused.flushes.append(&mut self.changes.flushes);
        let moved: BTreeSet<Seq> =
            self.changes.puts.values().filter_map(|put| put.replaces.as_ref()).map(|(_, seq)| *seq).collect();
        for (seq, mut put) in failed.puts {
            if put.answer.is_some() && put.replaces.is_none() {
                refused.puts.insert(seq, put);
            } else if !moved.contains(&seq) && !self.changes.deletes.contains_key(&seq) {
                if let Some((_, receives)) = self.changes.receives.remove(&seq) {
                    put.message.receives = receives;
                }
                put.due = retry_at;
                self.changes.puts.insert(seq, put);
            } else if let (Some((queue, replaced)), false) = (put.replaces, moved.contains(&seq)) {
                // The copy was deleted in the meantime; the original is still in the file.
                self.changes.deletes.entry(replaced).or_insert_with(|| (queue, oneshot::channel().0));
            }
        }
        for (seq, (queue, answer)) in failed.deletes {
            let _ = answer.send(Err(error.clone())); // the caller may have stopped waiting
            self.changes.deletes.entry(seq).or_insert_with(|| (queue, oneshot::channel().0));
        }
        for (seq, receives) in failed.receives {
            if !self.changes.deletes.contains_key(&seq) && !moved.contains(&seq) {
                self.changes.receives.entry(seq).or_insert(receives);
            }
        }
        refused.fail(error);
        self.due = Some(retry_at);
    }

    fn due_by(&mut self, due: Instant) {
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
    }

    /// Takes what one commit writes at `now`: all deletes and counts, and at most [`MAX_PUTS`] of the messages that are
    /// due.
    pub(super) fn take(&mut self, now: Instant) -> Changes {
        let all = self.closing || !self.changes.flushes.is_empty();
        let due = self.changes.puts.extract_if(.., |_, put| all || put.due <= now);
        let mut taken = Changes { puts: due.take(MAX_PUTS).collect(), ..Changes::default() };
        taken.deletes = std::mem::take(&mut self.changes.deletes);
        taken.receives = std::mem::take(&mut self.changes.receives);
        self.due = self.changes.puts.values().map(|put| put.due).min();
        if self.due.is_none() {
            taken.flushes = std::mem::take(&mut self.changes.flushes);
        } else if all {
            self.due = Some(now); // flushes wait for the rest
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[expect(clippy::disallowed_methods, reason = "there is no other way to create an instant")]
    fn any_time() -> Instant {
        Instant::now()
    }

    fn key(seq: Seq) -> Key {
        ("jobs".into(), seq)
    }

    fn put(now: Instant, linger: Duration) -> Put {
        let message = StoredMessage { receives: 0, visible_at: 0, group: None, dedup: None };
        Put::new("jobs".into(), message, Bytes::new(), now, linger)
    }

    fn answered(answer: &mut oneshot::Receiver<CloudResult<()>>) -> bool {
        matches!(answer.try_recv(), Ok(Ok(())))
    }

    fn seqs<T>(of: &BTreeMap<Seq, T>) -> Vec<Seq> {
        of.keys().copied().collect()
    }

    #[test]
    fn messages_that_arrive_within_the_linger_of_the_first_share_its_commit() {
        let (mut pending, start) = (Pending::default(), any_time());
        for seq in 0..5 {
            pending.put(seq, put(start + MS / 3 * seq as u32, LINGER));
        }
        assert_eq!(pending.due(), Some(start + Duration::from_millis(2)), "a later message does not delay the first");
        assert_eq!(seqs(&pending.take(start + 2 * LINGER).puts), [0, 1, 2, 3, 4]);
        assert_eq!(pending.due(), None);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_buffered_message_waits_for_its_own_linger_despite_other_commits() {
        let (mut pending, start) = (Pending::default(), any_time());
        pending.put(1, put(start, BUFFERED_LINGER));
        pending.put(2, put(start, LINGER));
        assert_eq!(seqs(&pending.take(start + LINGER).puts), [2]);
        assert_eq!(pending.due(), Some(start + Duration::from_secs(5)));
        assert_eq!(seqs(&pending.take(start + Duration::from_secs(5)).puts), [1]);
    }

    #[test]
    fn a_delete_before_the_commit_cancels_the_write_and_both_calls_succeed() {
        let (mut pending, now) = (Pending::default(), any_time());
        let (sender, mut sent) = oneshot::channel();
        let (deleter, mut deleted) = oneshot::channel();
        pending.put(1, Put { answer: Some(sender), ..put(now, LINGER) });
        pending.delete(key(1), deleter, now);
        assert!(pending.is_empty());
        assert!(answered(&mut sent) && answered(&mut deleted));
    }

    #[test]
    fn deletes_and_counts_linger_longer_than_messages_and_share_their_commit() {
        let (mut pending, start) = (Pending::default(), any_time());
        pending.delete(key(1), oneshot::channel().0, start);
        pending.count_receives(key(2), 3, start);
        assert_eq!(pending.due(), Some(start + Duration::from_millis(50)));
        pending.put(3, put(start, LINGER));
        assert_eq!(pending.due(), Some(start + LINGER));
        let taken = pending.take(start + LINGER);
        assert_eq!((seqs(&taken.puts), seqs(&taken.deletes), seqs(&taken.receives)), (vec![3], vec![1], vec![2]));
    }

    #[test]
    fn a_receive_count_is_written_with_its_message_or_dropped_on_delete() {
        let (mut pending, now) = (Pending::default(), any_time());
        pending.put(1, put(now, LINGER));
        pending.count_receives(key(1), 2, now);
        pending.count_receives(key(2), 2, now);
        pending.delete(key(2), oneshot::channel().0, now);
        let taken = pending.take(now + LINGER);
        assert_eq!(taken.puts[&1].message.receives, 2);
        assert_eq!(taken.receives.len(), 0);
    }

    #[test]
    fn a_flush_commits_in_bounded_batches_and_completes_with_the_last() {
        let (mut pending, now) = (Pending::default(), any_time());
        for seq in 0..100 {
            pending.put(seq, put(now, BUFFERED_LINGER));
        }
        pending.flush(oneshot::channel().0, now);
        assert_eq!(pending.due(), Some(now + LINGER));
        let first = pending.take(now + LINGER);
        assert_eq!((first.puts.len(), first.flushes.len()), (64, 0));
        assert_eq!(pending.due(), Some(now + LINGER), "the rest is due at once");
        let second = pending.take(now + LINGER);
        assert_eq!((second.puts.len(), second.flushes.len()), (36, 1));
    }

    #[test]
    fn closing_commits_messages_that_are_not_yet_due() {
        let (mut pending, now) = (Pending::default(), any_time());
        pending.put(1, put(now, BUFFERED_LINGER));
        pending.close();
        assert_eq!(seqs(&pending.take(now).puts), [1]);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_message_that_moves_is_deleted_by_the_commit_that_writes_its_copy() {
        let (mut pending, now) = (Pending::default(), any_time());
        pending.count_receives(key(1), 5, now);
        pending.replace(key(1), 2, put(now, LINGER));
        let early = pending.take(now);
        assert!(early.puts.is_empty() && early.deletes.is_empty(), "the two changes are never apart");
        assert!(early.receives.is_empty(), "its count no longer matters");
        let taken = pending.take(now + LINGER);
        assert_eq!(taken.puts[&2].replaces, Some(key(1)));

        // The copy is deleted before it is written: the message must not come back.
        pending.replace(key(1), 2, put(now, LINGER));
        pending.delete(key(2), oneshot::channel().0, now);
        let taken = pending.take(now + LINGER);
        assert_eq!((seqs(&taken.puts), seqs(&taken.deletes)), (vec![], vec![1]));
    }

    #[test]
    fn a_send_completes_with_the_copy_if_its_message_moves_before_the_commit() {
        let (mut pending, now) = (Pending::default(), any_time());
        let (sender, mut sent) = oneshot::channel();
        pending.put(1, Put { answer: Some(sender), ..put(now, LINGER) });
        pending.replace(key(1), 2, put(now, LINGER));
        assert!(!answered(&mut sent));
        let taken = pending.take(now + LINGER);
        assert_eq!((seqs(&taken.puts), &taken.puts[&2].replaces), (vec![2], &None));
        let answer = taken.puts.into_values().find_map(|put| put.answer).expect("the sender waits for the copy");
        answer.send(Ok(())).expect("the sender waits");
        assert!(answered(&mut sent));
    }

    #[test]
    fn what_could_not_be_written_is_tried_again_unless_it_is_superseded() {
        let (mut pending, now) = (Pending::default(), any_time());
        let (sender, mut sent) = oneshot::channel();
        pending.put(1, Put { answer: Some(sender), ..put(now, LINGER) });
        for seq in 2..=5 {
            pending.put(seq, put(now, LINGER));
        }
        pending.delete(key(6), oneshot::channel().0, now);
        pending.count_receives(key(7), 2, now);
        pending.count_receives(key(9), 2, now);
        let failed = pending.take(now + LINGER);
        // Meanwhile, two are deleted, one is received, one moves.
        pending.delete(key(2), oneshot::channel().0, now);
        pending.delete(key(9), oneshot::channel().0, now);
        pending.count_receives(key(3), 2, now);
        pending.replace(key(4), 8, put(now, LINGER));
        pending.put_back(failed, &CloudError::Unavailable("full".into()), now + BUFFERED_LINGER);

        assert!(matches!(sent.try_recv(), Ok(Err(_))), "the sender is refused");
        assert_eq!(pending.due(), Some(now + BUFFERED_LINGER));
        let again = pending.take(now + BUFFERED_LINGER);
        assert_eq!(
            (seqs(&again.puts), seqs(&again.deletes), seqs(&again.receives)),
            (vec![3, 5, 8], vec![2, 6, 9], vec![7])
        );
        assert_eq!((again.puts[&3].message.receives, &again.puts[&8].replaces), (2, &Some(key(4))));
    }
}

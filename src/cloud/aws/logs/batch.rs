//! Batches within the limits of PutLogEvents. The limits are those of its API reference: "PutLogEvents", CloudWatch Logs.

use std::collections::VecDeque;

use super::journal::Entry;

/// Size of a batch in bytes.
const MAX_BYTES: usize = 1 << 20;
/// What each event counts for in addition to its message, in bytes.
const OVERHEAD: usize = 26;
/// Size of an event in bytes, with its overhead. The quota has been raised since; old limits hold everywhere.
const MAX_EVENT: usize = 256 << 10;
/// Number of events in a batch.
const MAX_EVENTS: usize = 10_000;
/// Time between the first and the last event of a batch, in milliseconds.
const MAX_SPAN_MS: i64 = 24 * 3600 * 1000;
/// End of a message of which the rest does not fit.
const CUT: &str = "… (cut)";

/// Entries that have not been sent yet, in the order of the journal.
#[derive(Default)]
pub(super) struct Pending {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Pending {
    /// Adds an entry. A message that is too long is cut.
    pub(super) fn push(&mut self, mut entry: Entry) {
        if entry.message.len() + OVERHEAD > MAX_EVENT {
            let end = entry.message.floor_char_boundary(MAX_EVENT - OVERHEAD - CUT.len());
            entry.message.replace_range(end.., CUT);
        }
        self.bytes += size(&entry);
        self.entries.push_back(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether no more entries fit into the next batch.
    pub(super) fn is_full(&self) -> bool {
        self.bytes + MAX_EVENT > MAX_BYTES || self.entries.len() >= MAX_EVENTS
    }

    /// Returns the entries of the next batch in chronological order, as a batch must be, and how many they are. The clock of a
    /// machine may have been set back, so the order of the journal may be another one.
    pub(super) fn batch(&self) -> Vec<&Entry> {
        let (mut bytes, mut times): (usize, Option<(i64, i64)>) = (0, None);
        let fits = |entry: &&Entry| {
            bytes += size(entry);
            let (first, last) = times.unwrap_or((entry.at_ms, entry.at_ms));
            let (first, last) = (first.min(entry.at_ms), last.max(entry.at_ms));
            times = Some((first, last));
            bytes <= MAX_BYTES && last - first < MAX_SPAN_MS
        };
        let mut batch: Vec<&Entry> = self.entries.iter().take(MAX_EVENTS).take_while(fits).collect();
        batch.sort_by_key(|entry| entry.at_ms);
        batch
    }

    /// Removes the first `n` entries, and returns the position of the last of them.
    pub(super) fn remove(&mut self, n: usize) -> Option<String> {
        let last = self.entries.drain(..n).map(|entry| {
            self.bytes -= size(&entry);
            entry.cursor
        });
        last.last()
    }
}

fn size(entry: &Entry) -> usize {
    entry.message.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(entries: impl IntoIterator<Item = (i64, usize)>) -> Pending {
        let mut pending = Pending::default();
        for (n, (at_ms, length)) in entries.into_iter().enumerate() {
            pending.push(Entry { at_ms, message: "x".repeat(length), cursor: n.to_string() });
        }
        pending
    }

    /// Returns the sizes of the batches into which the entries are divided.
    fn batches(mut pending: Pending) -> Vec<usize> {
        let mut sizes = Vec::new();
        while !pending.is_empty() {
            let batch = pending.batch();
            assert!(batch.is_sorted_by_key(|entry| entry.at_ms));
            assert!(batch.iter().map(|entry| size(entry)).sum::<usize>() <= MAX_BYTES);
            sizes.push(batch.len());
            let n = batch.len();
            pending.remove(n);
        }
        assert_eq!(pending.bytes, 0);
        sizes
    }

    #[test]
    fn a_batch_has_at_most_a_mebibyte_with_26_bytes_for_each_event() {
        let kib = (1 << 10) - OVERHEAD;
        assert_eq!(batches(pending((0..1025).map(|n| (n, kib)))), [1024, 1]);
        assert_eq!(batches(pending((0..1024).map(|n| (n, kib + 1)))), [1023, 1]);
    }

    #[test]
    fn a_batch_has_at_most_ten_thousand_events() {
        assert_eq!(batches(pending((0..10_001).map(|n| (n, 1)))), [10_000, 1]);
    }

    #[test]
    fn a_batch_spans_less_than_a_day_in_either_direction() {
        let day = 24 * 3600 * 1000;
        assert_eq!(batches(pending([(0, 1), (day - 1, 1), (day, 1)])), [2, 1]);
        assert_eq!(batches(pending([(day, 1), (0, 1)])), [1, 1]);
    }

    #[test]
    fn a_batch_is_chronological_even_if_the_clock_was_set_back() {
        let pending = pending([(3, 1), (1, 1), (2, 1)]);
        assert_eq!(pending.batch().iter().map(|entry| entry.at_ms).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn the_position_is_that_of_the_last_entry_of_the_journal_that_was_sent() {
        let mut pending = pending([(3, 1), (1, 1), (2, 1)]);
        assert_eq!((pending.remove(2), pending.remove(0)), (Some("1".to_owned()), None));
    }

    #[test]
    fn a_message_that_is_too_long_is_cut_between_characters() {
        for padding in 0..3 {
            let mut pending = Pending::default();
            let message = format!("{}{}", "x".repeat(padding), "ä€".repeat(100_000));
            pending.push(Entry { at_ms: 0, message, cursor: String::new() });
            let message = &pending.batch()[0].message;
            assert!(message.ends_with(CUT) && (MAX_EVENT - 3..=MAX_EVENT).contains(&(message.len() + OVERHEAD)));
        }
    }

    #[test]
    fn what_is_pending_is_full_before_it_exceeds_a_batch() {
        let mut full = Pending::default();
        while !full.is_full() {
            full.push(Entry { at_ms: 0, message: "x".repeat(300_000), cursor: String::new() });
        }
        assert_eq!(full.batch().len(), full.entries.len());
    }
}

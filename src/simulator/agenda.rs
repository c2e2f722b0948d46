//! Virtual time: what will happen, in order of time, and of entry where times are equal.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::Time;

struct Entry<E> {
    key: Reverse<(Time, u64)>,
    what: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key.cmp(&other.key)
    }
}

/// Future events. Its clock stands at the last one taken.
pub struct Agenda<E> {
    heap: BinaryHeap<Entry<E>>,
    entered: u64,
    now: Time,
}

impl<E> Agenda<E> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), entered: 0, now: Time::ZERO }
    }

    pub fn now(&self) -> Time {
        self.now
    }

    /// Enters an event; one in the past happens now.
    pub fn at(&mut self, at: Time, what: E) {
        self.entered += 1;
        self.heap.push(Entry { key: Reverse((at.max(self.now), self.entered)), what });
    }

    pub fn after(&mut self, wait: Time, what: E) {
        self.at(self.now + wait, what);
    }

    /// The next event; the clock moves to it.
    pub fn next(&mut self) -> Option<E> {
        let Entry { key: Reverse((at, _)), what } = self.heap.pop()?;
        self.now = at;
        Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_entry() {
        let mut agenda = Agenda::new();
        let s = Time::from_secs;
        for (at, name) in [(3, "c"), (1, "a"), (3, "d"), (2, "b")] {
            agenda.at(s(at), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| agenda.next().map(|e| (agenda.now(), e))).collect();
        assert_eq!(order, [(s(1), "a"), (s(2), "b"), (s(3), "c"), (s(3), "d")]);
        agenda.at(s(1), "late");
        assert_eq!((agenda.next(), agenda.now()), (Some("late"), s(3)));
    }
}

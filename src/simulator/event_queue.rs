//! The future event list of the simulation, with its clock.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use super::Time;

struct Entry<E> {
    key: Reverse<(Time, u64)>,
    event: E,
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

/// Orders future events by time, and events of the same time by insertion. The clock shows the time of the last event
/// taken.
pub struct EventQueue<E> {
    /// Events that were known from the beginning, in order. They need no heap, which is faster the smaller it is.
    planned: VecDeque<(Time, E)>,
    heap: BinaryHeap<Entry<E>>,
    inserted: u64,
    now: Time,
}

impl<E> EventQueue<E> {
    /// Creates the list with events that are in order of time. They count as inserted before all others.
    pub fn new(planned: impl IntoIterator<Item = (Time, E)>) -> Self {
        Self { planned: planned.into_iter().collect(), heap: BinaryHeap::new(), inserted: 0, now: Time::ZERO }
    }

    /// Returns the current virtual time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Schedules an event. A time in the past means now.
    pub fn schedule_at(&mut self, at: Time, event: E) {
        self.inserted += 1;
        self.heap.push(Entry { key: Reverse((at.max(self.now), self.inserted)), event });
    }

    /// Schedules an event after a delay.
    pub fn schedule_after(&mut self, delay: Duration, event: E) {
        self.schedule_at(self.now + delay, event);
    }

    /// Takes the next event and advances the clock to it.
    pub fn pop(&mut self) -> Option<E> {
        let due = |planned: &mut (Time, E)| {
            self.heap.peek().is_none_or(|Entry { key: Reverse((next, _)), .. }| planned.0 <= *next)
        };
        if let Some((at, event)) = self.planned.pop_front_if(due) {
            self.now = at;
            return Some(event);
        }
        let Entry { key: Reverse((at, _)), event } = self.heap.pop()?;
        self.now = at;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_of_time_then_of_insertion() {
        let mut events = EventQueue::new([]);
        let s = Time::from_secs;
        for (at, name) in [(3, "c"), (1, "a"), (3, "d"), (2, "b")] {
            events.schedule_at(s(at), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| events.pop().map(|e| (events.now(), e))).collect();
        assert_eq!(order, [(s(1), "a"), (s(2), "b"), (s(3), "c"), (s(3), "d")]);
        events.schedule_at(s(1), "late");
        assert_eq!((events.pop(), events.now()), (Some("late"), s(3)));
    }
    #[test]
    fn planned_events_come_before_others_of_the_same_time() {
        let s = Time::from_secs;
        let mut events = EventQueue::new([(s(1), "a"), (s(3), "c"), (s(3), "d"), (s(9), "g")]);
        for (at, name) in [(2, "b"), (3, "e"), (4, "f")] {
            events.schedule_at(s(at), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| events.pop().map(|e| (events.now().as_secs(), e))).collect();
        assert_eq!(order, [(1, "a"), (2, "b"), (3, "c"), (3, "d"), (3, "e"), (4, "f"), (9, "g")]);
    }
}

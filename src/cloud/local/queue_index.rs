//! The index of one queue: which message is delivered next, and until when messages are hidden.
//!
//! It holds no bodies and does no I/O. Time is passed in, in milliseconds, and never goes backwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use crate::cloud::{CloudError, CloudResult, Depth, QueueSpec};

/// Position of a message; later sends have higher ones.
pub type Seq = u64;

/// How long a FIFO queue remembers deduplication ids: as long as SQS.
const DEDUP_MS: u64 = 5 * 60 * 1000;

/// Insertions that are remembered of any queue, so that those of a short one need not be looked through often.
const MIN_INSERTED: usize = 64;

/// One delivery of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The message.
    pub seq: Seq,
    /// Number of the delivery, unique in the queue.
    pub delivery: u64,
}

/// A delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// This delivery.
    pub ticket: Ticket,
    /// How often the message has been received, including this time.
    pub receives: u32,
}

/// The outcome of a receive.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The messages that are delivered.
    pub taken: Vec<Taken>,
    /// The messages that had been received too often, with their groups; they are no longer in the index.
    pub exhausted: Vec<(Seq, Option<String>)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Visible, or behind an earlier message of its group.
    Waiting,
    Delayed {
        until: u64,
    },
    InFlight {
        until: u64,
    },
}

#[derive(Debug)]
struct Entry {
    place: Place,
    receives: u32,
    /// The latest delivery, if there was one. Only its receipt is valid.
    delivery: Option<u64>,
    group: Option<String>,
}

/// The messages of one queue in order; see the [module](self).
#[derive(Debug)]
pub struct QueueIndex {
    visibility_ms: u64,
    max_receives: u32,
    entries: HashMap<Seq, Entry>,
    /// Messages that a receive would deliver, in this order.
    ready: BTreeSet<Seq>,
    /// When delayed and in-flight messages become visible.
    timers: BTreeSet<(u64, Seq)>,
    /// Messages of each group. Only the first of a group can be ready or in flight.
    groups: BTreeMap<String, BTreeSet<Seq>>,
    dedup: HashMap<String, u64>,
    dedup_order: VecDeque<(u64, String)>,
    /// When messages were inserted, in this order. Some of them may be gone.
    inserted: VecDeque<(Seq, u64)>,
    deliveries: u64,
    in_flight: u64,
    delayed: u64,
}

impl QueueIndex {
    /// Creates the index of an empty queue.
    pub fn new(spec: &QueueSpec) -> Self {
        Self {
            visibility_ms: spec.visibility.as_millis() as u64,
            max_receives: spec.max_receives,
            entries: HashMap::new(),
            ready: BTreeSet::new(),
            timers: BTreeSet::new(),
            groups: BTreeMap::new(),
            dedup: HashMap::new(),
            dedup_order: VecDeque::new(),
            inserted: VecDeque::new(),
            deliveries: 0,
            in_flight: 0,
            delayed: 0,
        }
    }

    /// Returns whether a message with this deduplication id was sent within the last five minutes, and remembers the id
    /// for five minutes if not.
    pub fn check_and_remember(&mut self, dedup: &str, now: u64) -> bool {
        while let Some((until, _)) = self.dedup_order.front().filter(|(until, _)| *until <= now) {
            let until = *until;
            if let Some((_, id)) = self.dedup_order.pop_front()
                && self.dedup.get(&id) == Some(&until)
            {
                self.dedup.remove(&id);
            }
        }
        if self.dedup.contains_key(dedup) {
            return true;
        }
        self.dedup.insert(dedup.to_owned(), now + DEDUP_MS);
        self.dedup_order.push_back((now + DEDUP_MS, dedup.to_owned()));
        false
    }

    /// Returns the group of a message, if it is in the index and has one.
    pub fn group(&self, seq: Seq) -> Option<&str> {
        self.entries.get(&seq)?.group.as_deref()
    }

    /// Returns the groups of the messages.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Forgets a deduplication id whose message could not be stored.
    pub fn forget_duplicate(&mut self, dedup: &str) {
        self.dedup.remove(dedup);
    }

    /// Adds a message that is visible from `visible_at` on. `receives` is how often it has been received before.
    pub fn insert(&mut self, seq: Seq, group: Option<String>, receives: u32, visible_at: u64, now: u64) {
        if let Some(group) = &group {
            self.groups.entry(group.clone()).or_default().insert(seq);
        }
        let place = if visible_at > now {
            self.timers.insert((visible_at, seq));
            self.delayed += 1;
            Place::Delayed { until: visible_at }
        } else {
            Place::Waiting
        };
        self.entries.insert(seq, Entry { place, receives, delivery: None, group });
        self.forget_inserted();
        self.inserted.push_back((seq, now));
        self.refresh(seq);
    }

    /// Makes the message ready if it is visible and the first of its group.
    fn refresh(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get(&seq) else { return };
        let first = entry.group.as_ref().is_none_or(|g| self.groups[g].first() == Some(&seq));
        if entry.place == Place::Waiting && first {
            self.ready.insert(seq);
        } else {
            self.ready.remove(&seq);
        }
    }

    /// Makes every message visible whose timer has run out.
    fn expire(&mut self, now: u64) {
        while let Some(&(until, seq)) = self.timers.first().filter(|(until, _)| *until <= now) {
            self.timers.remove(&(until, seq));
            self.make_visible(seq);
        }
    }

    /// Makes a delayed or in-flight message visible.
    fn make_visible(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get_mut(&seq) else { return };
        match std::mem::replace(&mut entry.place, Place::Waiting) {
            Place::Waiting => {}
            Place::Delayed { .. } => self.delayed -= 1,
            Place::InFlight { .. } => self.in_flight -= 1,
        }
        self.refresh(seq);
    }

    /// Delivers up to `max` messages, and removes those it comes across that have been received too often.
    pub fn receive(&mut self, max: usize, now: u64) -> Received {
        self.expire(now);
        let mut out = Received::default();
        while out.taken.len() < max
            && let Some(seq) = self.ready.pop_first()
        {
            let entry = self.entries.get_mut(&seq).expect("ready messages have entries"); // both are removed together
            if entry.receives >= self.max_receives {
                let group = entry.group.clone();
                self.remove(seq);
                out.exhausted.push((seq, group));
                continue;
            }
            self.deliveries += 1;
            let until = now + self.visibility_ms;
            entry.receives += 1;
            entry.delivery = Some(self.deliveries);
            entry.place = Place::InFlight { until };
            self.timers.insert((until, seq));
            self.in_flight += 1;
            out.taken.push(Taken { ticket: Ticket { seq, delivery: self.deliveries }, receives: entry.receives });
        }
        out
    }

    /// Deletes the message of a delivery and returns its position, or `None` if it was gone already.
    ///
    /// # Errors
    /// `Conflict` if the message has been delivered again since.
    pub fn delete(&mut self, ticket: Ticket) -> CloudResult<Option<Seq>> {
        match self.entries.get(&ticket.seq) {
            None => Ok(None),
            Some(entry) if entry.delivery == Some(ticket.delivery) => {
                self.remove(ticket.seq);
                Ok(Some(ticket.seq))
            }
            Some(_) => Err(CloudError::Conflict("the message has been delivered again".into())),
        }
    }

    /// Removes a message, whatever its state.
    pub fn remove(&mut self, seq: Seq) {
        let Some(entry) = self.entries.remove(&seq) else { return };
        self.ready.remove(&seq);
        match entry.place {
            Place::Waiting => {}
            Place::Delayed { until } => {
                self.timers.remove(&(until, seq));
                self.delayed -= 1;
            }
            Place::InFlight { until } => {
                self.timers.remove(&(until, seq));
                self.in_flight -= 1;
            }
        }
        if let Some(group) = entry.group
            && let Some(members) = self.groups.get_mut(&group)
        {
            members.remove(&seq);
            match members.first().copied() {
                Some(next) => self.refresh(next),
                None => drop(self.groups.remove(&group)),
            }
        }
    }

    /// Hides a message that is in flight for `visibility` from `now` on. Zero makes it visible at once.
    ///
    /// # Errors
    /// `Conflict` if this delivery is no longer in flight.
    pub fn extend(&mut self, ticket: Ticket, visibility: Duration, now: u64) -> CloudResult<()> {
        self.expire(now);
        let entry = self.entries.get_mut(&ticket.seq).filter(|e| e.delivery == Some(ticket.delivery));
        let Some(Entry { place: Place::InFlight { until }, .. }) = entry else {
            return Err(CloudError::Conflict("the receipt is no longer valid".into()));
        };
        self.timers.remove(&(*until, ticket.seq));
        *until = now + visibility.as_millis() as u64;
        if *until > now {
            self.timers.insert((*until, ticket.seq));
        } else {
            self.make_visible(ticket.seq);
        }
        Ok(())
    }

    /// Counts the messages by state.
    pub fn depth(&mut self, now: u64) -> Depth {
        self.expire(now);
        let all = self.entries.len() as u64;
        Depth { visible: all - self.in_flight - self.delayed, in_flight: self.in_flight, delayed: self.delayed }
    }

    /// Returns the time since the oldest message was inserted; zero if there is no message.
    pub fn oldest(&mut self, now: u64) -> Duration {
        self.forget_inserted();
        self.inserted.front().map_or(Duration::ZERO, |(_, at)| Duration::from_millis(now.saturating_sub(*at)))
    }

    /// Forgets when messages were inserted that are gone: those before the oldest one, and all others when they are most.
    fn forget_inserted(&mut self) {
        while self.inserted.front().is_some_and(|(seq, _)| !self.entries.contains_key(seq)) {
            self.inserted.pop_front();
        }
        if self.inserted.len() > 2 * self.entries.len() + MIN_INSERTED {
            self.inserted.retain(|(seq, _)| self.entries.contains_key(seq));
        }
    }

    /// Returns when the next delayed or in-flight message becomes visible.
    pub fn next_timer(&self) -> Option<u64> {
        self.timers.first().map(|(at, _)| *at)
    }
}

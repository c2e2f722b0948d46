//! The index of the embedded queue against a model that is simple enough to be obviously correct: a list of messages,
//! searched from the front each time. Any history of sends, receives, deletes, extensions and passing time must give
//! the same results from both.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;
use rollcall::cloud::{
    Depth, QueueSpec,
    local::queue_index::{QueueIndex, Seq, Ticket},
};

/// Visibility timeout in milliseconds.
const VISIBILITY: u64 = 30;
const MAX_RECEIVES: u32 = 3;
/// Deduplication interval in milliseconds: five minutes, as in SQS.
const DEDUP: u64 = 300_000;

#[derive(Clone, Debug)]
enum Step {
    Send {
        group: Option<u8>,
        dedup: Option<u8>,
        delay: u64,
    },
    Receive {
        max: usize,
    },
    /// Deletes by the receipt of any earlier delivery, valid or not.
    Delete {
        delivery: prop::sample::Index,
    },
    Extend {
        delivery: prop::sample::Index,
        by: u64,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::option::of(0..3u8), prop::option::weighted(0.3, 0..4u8), prop_oneof![3 => Just(0), 1 => 1..50u64])
            .prop_map(|(group, dedup, delay)| Step::Send { group, dedup, delay }),
        4 => (1..5usize).prop_map(|max| Step::Receive { max }),
        3 => any::<prop::sample::Index>().prop_map(|delivery| Step::Delete { delivery }),
        2 => (any::<prop::sample::Index>(), prop_oneof![Just(0), 1..80u64])
            .prop_map(|(delivery, by)| Step::Extend { delivery, by }),
        3 => prop_oneof![8 => 1..40u64, 1 => Just(DEDUP)].prop_map(|ms| Step::Wait { ms }),
    ]
}

struct Sent {
    seq: Seq,
    at: u64,
    group: Option<u8>,
    receives: u32,
    /// Becomes visible at this time: until then it is delayed, or in flight.
    hidden_until: u64,
    latest: Option<Ticket>,
}

#[derive(Default)]
struct Model {
    messages: Vec<Sent>,
    dedup: HashMap<u8, u64>,
}

impl Model {
    /// Returns the delivered sequence numbers with their receive counts, and those that were exhausted instead.
    fn receive(&mut self, max: usize, now: u64) -> (Vec<(Seq, u32)>, Vec<Seq>) {
        let (mut taken, mut exhausted) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < self.messages.len() && taken.len() < max {
            let message = &self.messages[at];
            let behind = message.group.is_some() && self.messages[..at].iter().any(|m| m.group == message.group);
            if message.hidden_until > now || behind {
                at += 1;
            } else if message.receives == MAX_RECEIVES {
                exhausted.push(self.messages.remove(at).seq);
                at = 0; // the next of its group may be ready now
            } else {
                let message = &mut self.messages[at];
                message.receives += 1;
                message.hidden_until = now + VISIBILITY;
                taken.push((message.seq, message.receives));
                at += 1;
            }
        }
        (taken, exhausted)
    }

    fn depth(&self, now: u64) -> Depth {
        let mut depth = Depth::default();
        for message in &self.messages {
            match (message.hidden_until > now, message.receives) {
                (false, _) => depth.visible += 1,
                (true, 0) => depth.delayed += 1,
                (true, _) => depth.in_flight += 1,
            }
        }
        depth
    }
}

fn index() -> QueueIndex {
    QueueIndex::new(&QueueSpec {
        name: "q.fifo".into(),
        fifo: true,
        visibility: Duration::from_millis(VISIBILITY),
        max_receives: MAX_RECEIVES,
        dead_letter: None,
        durable: false,
    })
}

#[test]
fn a_delayed_message_that_is_removed_is_no_longer_counted() {
    let mut index = index();
    for seq in 1..=3 {
        index.insert(seq, None, 0, 100, 0);
    }
    index.remove(2);
    assert_eq!(index.depth(0), Depth { delayed: 2, ..Depth::default() });
}

fn assert_matches_model(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut index, mut model) = (index(), Model::default());
    let (mut now, mut last) = (1_000, 0);
    let mut deliveries: Vec<Ticket> = Vec::new();
    for step in steps {
        match step {
            Step::Send { group, dedup, delay } => {
                let duplicate = dedup.is_some_and(|id| model.dedup.get(&id).is_some_and(|until| *until > now));
                if let Some(id) = dedup {
                    prop_assert_eq!(index.check_and_remember(&id.to_string(), now), duplicate);
                    if !duplicate {
                        model.dedup.insert(id, now + DEDUP);
                    }
                }
                if !duplicate {
                    last += 1;
                    index.insert(last, group.map(|g| g.to_string()), 0, now + delay, now);
                    let hidden_until = now + delay;
                    model.messages.push(Sent { seq: last, at: now, group, receives: 0, hidden_until, latest: None });
                }
            }
            Step::Receive { max } => {
                let received = index.receive(max, now);
                let (taken, exhausted) = model.receive(max, now);
                let seen: Vec<_> = received.taken.iter().map(|t| (t.ticket.seq, t.receives)).collect();
                prop_assert_eq!(seen, taken);
                let seqs: Vec<_> = received.exhausted.into_iter().map(|(seq, _)| seq).collect();
                prop_assert_eq!(seqs, exhausted);
                for ticket in received.taken.iter().map(|t| t.ticket) {
                    prop_assert!(!deliveries.contains(&ticket), "each delivery has a ticket of its own");
                    deliveries.push(ticket);
                    let message = model.messages.iter_mut().find(|m| m.seq == ticket.seq).expect("just taken");
                    message.latest = Some(ticket);
                }
            }
            Step::Delete { delivery } if !deliveries.is_empty() => {
                let ticket = *delivery.get(&deliveries);
                let at = model.messages.iter().position(|m| m.seq == ticket.seq);
                let expected = match at {
                    None => Ok(None),
                    Some(at) if model.messages[at].latest == Some(ticket) => {
                        model.messages.remove(at);
                        Ok(Some(ticket.seq))
                    }
                    Some(_) => Err(()),
                };
                prop_assert_eq!(index.delete(ticket).map_err(drop), expected);
            }
            Step::Extend { delivery, by } if !deliveries.is_empty() => {
                let ticket = *delivery.get(&deliveries);
                let held = model.messages.iter_mut().find(|m| m.latest == Some(ticket) && m.hidden_until > now);
                let expected = held.is_some();
                if let Some(message) = held {
                    message.hidden_until = now + by;
                }
                prop_assert_eq!(index.extend(ticket, Duration::from_millis(by), now).is_ok(), expected);
            }
            Step::Delete { .. } | Step::Extend { .. } => {}
            Step::Wait { ms } => now += ms,
        }
        prop_assert_eq!(index.depth(now), model.depth(now));
        let oldest = model.messages.first().map_or(0, |message| now - message.at);
        prop_assert_eq!(index.oldest(now), Duration::from_millis(oldest));
        let next = model.messages.iter().map(|m| m.hidden_until).filter(|until| *until > now).min();
        prop_assert_eq!(index.next_timer(), next);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_index_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        assert_matches_model(steps)?;
    }
}

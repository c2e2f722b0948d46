//! How many receives of one queue a poller has under way at a time. Pure.
//!
//! A call to a remote queue takes time and returns at most [`MAX_BATCH`](crate::cloud::MAX_BATCH) messages, so receives that
//! follow one another limit the rate. A full batch shows that more messages are waiting, and starts a further receiver. One
//! that gets less than half of a batch ends again, and only the first one remains: an idle queue costs one long poll at a
//! time.

use std::collections::BTreeMap;

/// Tells the receivers of a poller apart.
pub(crate) type ReceiverIndex = usize;

/// The receiver that never ends.
pub(crate) const FIRST: ReceiverIndex = 0;

/// What a receiver is doing, with the handle by which that can be cancelled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<H> {
    /// It pauses, and then asks the owner for capacity.
    Requesting(H),
    /// It polls the queue.
    Receiving(H),
}

/// What follows a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// The receiver receives again.
    pub(crate) goes_on: bool,
    /// This receiver begins.
    pub(crate) another: Option<ReceiverIndex>,
}

/// The receivers of a poller.
pub(crate) struct Receivers<H> {
    most: usize,
    steps: BTreeMap<ReceiverIndex, Step<H>>,
}

impl<H: Copy> Receivers<H> {
    /// Creates at most this many receivers, of which none has begun.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, steps: BTreeMap::new() }
    }

    /// Records what a receiver is doing now.
    pub(crate) fn begin(&mut self, receiver: ReceiverIndex, step: Step<H>) {
        self.steps.insert(receiver, step);
    }

    /// Records that a receiver has done its step.
    pub(crate) fn end(&mut self, receiver: ReceiverIndex) {
        self.steps.remove(&receiver);
    }

    /// Returns what follows a receive for `max` messages that returned `received`.
    pub(crate) fn after(&self, receiver: ReceiverIndex, received: usize, max: usize) -> Next {
        let goes_on = receiver == FIRST || 2 * received >= max;
        let free = || (0..self.most).find(|other| *other != receiver && !self.steps.contains_key(other));
        Next { goes_on, another: if received >= max { free() } else { None } }
    }

    /// Returns how many receives are under way.
    pub(crate) fn receiving(&self) -> usize {
        self.steps.values().filter(|step| matches!(step, Step::Receiving(_))).count()
    }

    /// Ends the poll of a receiver, if one is under way, and returns what is to be cancelled.
    pub(crate) fn cancel_poll(&mut self, receiver: ReceiverIndex) -> Option<H> {
        let Some(Step::Receiving(poll)) = self.steps.get(&receiver).copied() else { return None };
        self.steps.remove(&receiver);
        Some(poll)
    }

    /// Ends what no receive is under way for and, with `polls`, the receives as well. Returns what is to be cancelled.
    pub(crate) fn cancel(&mut self, polls: bool) -> Vec<H> {
        let ends = |step: &Step<H>| polls || matches!(step, Step::Requesting(_));
        let ended = self.steps.extract_if(.., |_, step| ends(step));
        ended.map(|(_, Step::Requesting(handle) | Step::Receiving(handle))| handle).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(most: usize, begun: &[ReceiverIndex]) -> Receivers<()> {
        let mut receivers = Receivers::new(most);
        begun.iter().for_each(|receiver| receivers.begin(*receiver, Step::Receiving(())));
        receivers
    }

    #[test]
    fn a_full_batch_starts_a_further_receiver_and_a_small_one_ends_it() {
        let next = |receiver, received| {
            let Next { goes_on, another } = receivers(3, &[0, 1, 2][..receiver]).after(receiver, received, 10);
            (goes_on, another)
        };
        assert_eq!([0, 4, 5, 9].map(|received| next(FIRST, received)), [(true, None); 4]);
        assert_eq!(next(FIRST, 10), (true, Some(1)));
        assert_eq!([0, 4].map(|received| next(1, received)), [(false, None); 2]);
        assert_eq!([5, 9].map(|received| next(1, received)), [(true, None); 2]);
        assert_eq!(next(1, 10), (true, Some(2)));
        assert_eq!(next(2, 10), (true, None), "there are as many as there may be");
        assert_eq!(receivers(1, &[]).after(FIRST, 10, 10), Next { goes_on: true, another: None });
    }

    #[test]
    fn a_receiver_that_has_ended_can_begin_again() {
        let mut receivers = receivers(3, &[1, 2]);
        assert_eq!(receivers.after(FIRST, 10, 10).another, None);
        receivers.end(1);
        assert_eq!(receivers.after(FIRST, 10, 10).another, Some(1));
    }
}

//! When a worker asks the queue for jobs, and for how many: so early that its threads do not wait for the queue, so late
//! that it holds nothing that an idle worker could do. Pure: time is passed in.
//!
//! Jobs that have waited in the queue say that no worker was idle. Then a worker asks a little before a thread is free,
//! and for as many jobs as its threads will begin within [`LookAhead::horizon`], if inferences take as long as usual: one
//! call for several jobs. Where the queue had less than was asked for, it asks when a thread is free, and for one job a
//! free thread.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tokio::time::Instant;

use super::queue_poller::BATCH;

/// What may be asked for ahead.
#[derive(Clone, Copy, Debug)]
pub struct LookAhead {
    /// How long before a thread is free the queue is asked: the time of a receive, there and back.
    pub lead: Duration,
    /// How long a job that was received waits for a thread, at most and usually. At least `lead`.
    pub horizon: Duration,
}

/// What a worker is doing.
#[derive(Clone, Debug)]
pub struct Load {
    pub threads: usize,
    /// How long an inference usually takes; `None` before anything was learned.
    pub usual: Option<Duration>,
    /// When each inference that is under way began.
    pub begun: Vec<Instant>,
    /// Jobs in hand whose inference has not begun.
    pub waiting: usize,
    /// The last answer of the queue had as much as it was asked for.
    pub plenty: bool,
}

/// What to do about the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Ask for so many jobs, 1 to [`BATCH`].
    Now(usize),
    /// Not before then.
    At(Instant),
    /// When an inference has begun or ended.
    Later,
}

impl LookAhead {
    pub fn ask(&self, load: &Load, now: Instant) -> Ask {
        let (lead, horizon) = if load.plenty { (self.lead, self.horizon) } else { Default::default() };
        // When each thread is free, earliest first; threads of which that is not known are left out.
        let idle = load.threads.saturating_sub(load.begun.len());
        let ends = load.begun.iter().filter_map(|begun| Some(now.max(*begun + load.usual?)));
        let mut free: BinaryHeap<Reverse<Instant>> = std::iter::repeat_n(now, idle).chain(ends).map(Reverse).collect();
        let take = |free: &mut BinaryHeap<Reverse<Instant>>| {
            let Reverse(begins) = free.pop()?;
            free.extend(load.usual.map(|usual| Reverse(begins + usual)));
            Some(begins)
        };
        for _ in 0..load.waiting {
            take(&mut free);
        }
        match free.peek() {
            None => return Ask::Later,
            Some(Reverse(first)) if *first > now + lead => return Ask::At(*first - lead),
            Some(_) => {}
        }
        let mut count = 0;
        while count < BATCH
            && free.peek().is_some_and(|Reverse(begins)| *begins <= now + horizon)
            && take(&mut free).is_some()
        {
            count += 1;
        }
        Ask::Now(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AHEAD: LookAhead = LookAhead { lead: ms(5), horizon: ms(20) };

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn load(threads: usize, usual: u64, begun: &[Instant], waiting: usize, plenty: bool) -> Load {
        Load { threads, usual: Some(ms(usual)), begun: begun.to_vec(), waiting, plenty }
    }

    #[tokio::test]
    async fn an_idle_worker_asks_for_one_job_a_thread() {
        let now = Instant::now();
        for usual in [None, Some(ms(1)), Some(ms(25))] {
            let load = Load { threads: 2, usual, begun: vec![], waiting: 0, plenty: false };
            assert_eq!(AHEAD.ask(&load, now), Ask::Now(2), "{usual:?}");
        }
    }

    #[tokio::test]
    async fn a_busy_worker_asks_ahead_only_while_the_queue_has_plenty() {
        let now = Instant::now() + ms(1_000);
        let begun = [now - ms(21), now - ms(12)]; // free in 4 ms and in 13 ms
        assert_eq!(AHEAD.ask(&load(2, 25, &begun, 0, true), now), Ask::Now(2));
        assert_eq!(AHEAD.ask(&load(2, 25, &begun, 0, false), now), Ask::At(now + ms(4)));
        // What is in hand already takes the first thread.
        assert_eq!(AHEAD.ask(&load(2, 25, &begun, 1, true), now), Ask::At(now + ms(8)));
        // Of an inference that takes longer than usual, the end is expected at any moment.
        assert_eq!(AHEAD.ask(&load(1, 25, &[now - ms(90)], 0, true), now), Ask::Now(1));
    }

    #[tokio::test]
    async fn short_jobs_share_a_call() {
        let now = Instant::now();
        assert_eq!(AHEAD.ask(&load(1, 5, &[], 0, true), now), Ask::Now(5));
        assert_eq!(AHEAD.ask(&load(1, 1, &[], 0, true), now), Ask::Now(BATCH));
    }

    #[tokio::test]
    async fn before_anything_is_known_a_busy_thread_is_waited_for() {
        let now = Instant::now();
        let load = Load { threads: 1, usual: None, begun: vec![now], waiting: 0, plenty: true };
        assert_eq!(AHEAD.ask(&load, now + ms(900)), Ask::Later);
    }

    proptest! {
        /// Jobs that take as long as usual, from a queue that never runs dry and answers at once.
        #[test]
        fn no_job_waits_in_hand_beyond_the_horizon_and_no_thread_waits(
            threads in 1usize..9, usual in 1u64..80, step in 1u64..3, steps in 50usize..200,
        ) {
            let start = Instant::now();
            let (mut begun, mut waiting): (Vec<Instant>, Vec<Instant>) = (vec![], vec![]);
            for at in 0..steps {
                let now = start + ms(at as u64 * step);
                begun.retain(|b| *b + ms(usual) > now);
                let begin = |begun: &mut Vec<Instant>, waiting: &mut Vec<Instant>| {
                    while begun.len() < threads && !waiting.is_empty() {
                        let received = waiting.remove(0);
                        // A step is how late this notices that a thread is free, each time one before it was.
                        let late = ms(step) * (1 + AHEAD.horizon.as_millis() as u32 / usual as u32);
                        assert!(now - received <= AHEAD.horizon + late, "held for {:?}", now - received);
                        begun.push(now);
                    }
                };
                begin(&mut begun, &mut waiting);
                while let Ask::Now(n) = AHEAD.ask(&load(threads, usual, &begun, waiting.len(), true), now) {
                    prop_assert!((1..=BATCH).contains(&n));
                    waiting.extend(std::iter::repeat_n(now, n));
                    begin(&mut begun, &mut waiting);
                }
                prop_assert_eq!(begun.len(), threads, "a thread has nothing to do");
            }
        }
    }
}

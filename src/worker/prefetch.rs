//! When a worker asks the queue for jobs, and for how many: so early that its threads do not wait for the queue, so late
//! that it holds nothing that an idle worker could do. Pure: time is passed in.
//!
//! Jobs that have waited in the queue say that no worker was idle. Then a worker asks a little before a thread is free,
//! and for as many jobs as its threads will begin within [`Prefetch::max_prefetch_delay`], if inferences take as long as
//! usual: one call for several jobs. Where the queue had less than was asked for, it asks when a thread is free, and for
//! one job a free thread. Behind an inference that takes longer than inferences do, it asks for nothing.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tokio::time::Instant;

use crate::actors::queue_poller::BATCH;

/// Jobs a thread that may wait in hand: if images turn out to take long, no thread has more of them before it.
const A_THREAD: usize = 2;

/// How long inferences take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceTime {
    pub mean: Duration,
    /// Nearly all take no longer.
    pub upper_bound: Duration,
}

/// What may be asked for ahead.
#[derive(Clone, Copy, Debug)]
pub struct Prefetch {
    /// How long before a thread is free the queue is asked: the time of a receive, there and back.
    pub lead: Duration,
    /// How long a job that was received waits for a thread, at upper_bound and usually. At least `lead`.
    pub max_prefetch_delay: Duration,
}

/// What a worker is doing.
#[derive(Clone, Debug)]
pub struct Load {
    pub threads: usize,
    /// `None` before anything was learned.
    pub usual: Option<ServiceTime>,
    /// When each inference that is under way began.
    pub begun: Vec<Instant>,
    /// Jobs in hand whose inference has not begun.
    pub waiting: usize,
    /// The last answer of the queue had as much as it was asked for.
    pub batch_was_full: bool,
}

/// What to do about the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollDecision {
    /// Ask for so many jobs, 1 to [`BATCH`].
    Now(usize),
    /// Not before then.
    At(Instant),
    /// When an inference has begun or ended.
    Later,
}

impl Prefetch {
    pub fn ask(&self, load: &Load, now: Instant) -> PollDecision {
        let room = BATCH.min((A_THREAD * load.threads).saturating_sub(load.waiting));
        if room == 0 {
            return PollDecision::Later;
        }
        let mut starts = Starts::new(load, now).peekable();
        match starts.peek() {
            None => return PollDecision::Later,
            Some(first) if *first > now + self.lead => return PollDecision::At(*first - self.lead),
            Some(_) => {}
        }
        PollDecision::Now(starts.take_while(|start| *start <= now + self.max_prefetch_delay).take(room).count())
    }
}

/// When the threads will begin with further jobs, one after the other.
struct Starts {
    /// When each thread is free; those of which that is not known are left out.
    free: BinaryHeap<Reverse<Instant>>,
    mean: Option<Duration>,
}

impl Starts {
    fn new(load: &Load, now: Instant) -> Self {
        let usual = load.usual.filter(|_| load.batch_was_full); // otherwise only a thread that is free counts
        let idle = load.threads.saturating_sub(load.begun.len());
        let end = |usual: ServiceTime, begun: Instant| {
            (now <= begun + usual.upper_bound).then(|| now.max(begun + usual.mean))
        };
        let ends = load.begun.iter().filter_map(|begun| end(usual?, *begun));
        let free = std::iter::repeat_n(now, idle).chain(ends).map(Reverse).collect();
        let mut starts = Self { free, mean: usual.map(|usual| usual.mean) };
        starts.by_ref().take(load.waiting).for_each(drop); // those are in hand already
        starts
    }
}

impl Iterator for Starts {
    type Item = Instant;

    fn next(&mut self) -> Option<Instant> {
        let Reverse(start) = self.free.pop()?;
        self.free.extend(self.mean.map(|mean| Reverse(start + mean)));
        Some(start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AHEAD: Prefetch = Prefetch { lead: ms(5), max_prefetch_delay: ms(20) };

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn steady(usual: u64) -> ServiceTime {
        ServiceTime { mean: ms(usual), upper_bound: ms(usual) }
    }

    fn load(threads: usize, usual: u64, begun: &[Instant], waiting: usize, batch_was_full: bool) -> Load {
        Load { threads, usual: Some(steady(usual)), begun: begun.to_vec(), waiting, batch_was_full }
    }

    #[tokio::test]
    async fn an_idle_worker_asks_for_one_job_a_thread() {
        let now = Instant::now();
        for usual in [None, Some(steady(1)), Some(steady(25))] {
            let load = Load { threads: 2, usual, begun: vec![], waiting: 0, batch_was_full: false };
            assert_eq!(AHEAD.ask(&load, now), PollDecision::Now(2), "{usual:?}");
        }
    }

    #[tokio::test]
    async fn a_busy_worker_asks_ahead_only_while_the_queue_has_plenty() {
        let now = Instant::now() + ms(1_000);
        let begun = [now - ms(21), now - ms(12)]; // free in 4 ms and in 13 ms
        assert_eq!(AHEAD.ask(&load(2, 25, &begun, 0, true), now), PollDecision::Now(2));
        assert_eq!(AHEAD.ask(&load(2, 25, &begun, 0, false), now), PollDecision::Later);
        assert_eq!(AHEAD.ask(&load(3, 25, &begun, 0, false), now), PollDecision::Now(1));
        // What is in hand already takes the first thread.
        assert_eq!(AHEAD.ask(&load(2, 25, &begun, 1, true), now), PollDecision::At(now + ms(8)));
    }

    #[tokio::test]
    async fn the_end_of_a_late_inference_is_expected_at_any_moment_but_not_for_ever() {
        let now = Instant::now() + ms(1_000);
        let usual = Some(ServiceTime { mean: ms(10), upper_bound: ms(60) });
        let load = |begun| Load { threads: 2, usual, begun, waiting: 0, batch_was_full: true };
        assert_eq!(AHEAD.ask(&load(vec![now - ms(59), now]), now), PollDecision::Now(4));
        assert_eq!(AHEAD.ask(&load(vec![now - ms(61), now - ms(61)]), now), PollDecision::Later);
    }

    #[tokio::test]
    async fn short_jobs_share_a_call() {
        let now = Instant::now();
        assert_eq!(AHEAD.ask(&load(3, 12, &[], 0, true), now), PollDecision::Now(6));
        // But no thread gets many: they may turn out to be long.
        assert_eq!(AHEAD.ask(&load(2, 1, &[], 0, true), now), PollDecision::Now(2 * A_THREAD));
        assert_eq!(AHEAD.ask(&load(32, 1, &[], 0, true), now), PollDecision::Now(BATCH));
    }

    #[tokio::test]
    async fn before_anything_is_known_a_busy_thread_is_waited_for() {
        let now = Instant::now();
        let load = Load { threads: 1, usual: None, begun: vec![now], waiting: 0, batch_was_full: true };
        assert_eq!(AHEAD.ask(&load, now + ms(900)), PollDecision::Later);
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
                        let late = ms(step) * (1 + AHEAD.max_prefetch_delay.as_millis() as u32 / usual as u32);
                        assert!(now - received <= AHEAD.max_prefetch_delay + late, "held for {:?}", now - received);
                        begun.push(now);
                    }
                };
                begin(&mut begun, &mut waiting);
                while let PollDecision::Now(n) = AHEAD.ask(&load(threads, usual, &begun, waiting.len(), true), now) {
                    prop_assert!((1..=BATCH).contains(&n));
                    waiting.extend(std::iter::repeat_n(now, n));
                    begin(&mut begun, &mut waiting);
                }
                prop_assert_eq!(begun.len(), threads, "a thread has nothing to do");
                prop_assert!(waiting.len() <= A_THREAD * threads);
            }
        }
    }
}

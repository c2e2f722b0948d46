//! Decides when a worker receives jobs, and how many: early enough that its threads do not wait for the queue, and late
//! enough that it holds no job that an idle worker could do.
//!
//! A full batch shows that jobs are waiting in the queue, so no worker is idle. The worker then polls shortly before a
//! thread is free, for as many jobs as its threads will begin within [`Prefetch::max_prefetch_delay`] if each takes the
//! mean service time: one call for several jobs. After a batch that was not full, it polls when a thread is free, for
//! one job per free thread. While the queue refuses calls, jobs may wait longer ([`Load::batching`]): an idle worker could
//! not receive them either. It prefetches nothing behind a job that has already taken longer than
//! [`ServiceTime::upper_bound`].

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use tokio::time::Instant;

use super::service_time::ServiceTime;
use crate::cloud::MAX_BATCH;

/// Limit on waiting jobs per thread, in case they turn out to be long.
const PER_THREAD: usize = 2;
/// The same limit while the queue refuses calls: with two threads, a call then returns a full batch.
const PER_THREAD_IF_REFUSED: usize = 5;

/// How far ahead jobs may be received.
#[derive(Clone, Copy, Debug)]
pub struct Prefetch {
    /// How long before a thread becomes free to poll the queue: the round-trip time of one receive.
    pub lead: Duration,
    /// Longest time that a received job waits for a thread if jobs take the mean service time. At least `lead`.
    pub max_prefetch_delay: Duration,
}

/// The load of a worker.
#[derive(Clone, Debug)]
pub struct Load {
    /// Number of threads.
    pub threads: usize,
    /// How long jobs take; `None` until a job has finished.
    pub service_time: Option<ServiceTime>,
    /// Start time of each running job.
    pub begun: Vec<Instant>,
    /// Jobs in flight that have not been begun.
    pub waiting: usize,
    /// The last poll returned as many jobs as requested.
    pub batch_was_full: bool,
    /// How long jobs are to wait for each other because the queue refuses calls; zero if it does not.
    pub batching: Duration,
}

/// Whether to poll the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollDecision {
    /// Poll for this many jobs, 1 to [`MAX_BATCH`].
    Now(usize),
    /// Decide again at this time.
    At(Instant),
    /// Decide again when a job has been begun or finished.
    Later,
}

impl Prefetch {
    /// Decides whether to poll at `now`, and for how many jobs.
    pub fn decide(&self, load: &Load, now: Instant) -> PollDecision {
        let per_thread = if load.batching.is_zero() { PER_THREAD } else { PER_THREAD_IF_REFUSED };
        let room = MAX_BATCH.min((per_thread * load.threads).saturating_sub(load.waiting));
        if room == 0 {
            return PollDecision::Later;
        }
        let mut starts = Starts::new(load, now).peekable();
        match starts.peek() {
            None => return PollDecision::Later,
            Some(first) if *first > now + self.lead => return PollDecision::At(*first - self.lead),
            Some(_) => {}
        }
        let delay = self.max_prefetch_delay.max(load.batching);
        PollDecision::Now(starts.take_while(|start| *start <= now + delay).take(room).count())
    }
}

/// Iterates over the times at which threads will begin further jobs, in order.
struct Starts {
    /// When each thread is free; threads for which this is unknown are omitted.
    free: BinaryHeap<Reverse<Instant>>,
    mean: Option<Duration>,
}

impl Starts {
    fn new(load: &Load, now: Instant) -> Self {
        let estimate = load.service_time.filter(|_| load.batch_was_full); // otherwise only free threads count
        let idle = load.threads.saturating_sub(load.begun.len());
        let end =
            |time: ServiceTime, begun: Instant| (now <= begun + time.upper_bound).then(|| now.max(begun + time.mean));
        let ends = load.begun.iter().filter_map(|begun| end(estimate?, *begun));
        let free = std::iter::repeat_n(now, idle).chain(ends).map(Reverse).collect();
        let mut starts = Self { free, mean: estimate.map(|time| time.mean) };
        starts.by_ref().take(load.waiting).for_each(drop); // for jobs already in flight
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

    const PREFETCH: Prefetch = Prefetch { lead: ms(5), max_prefetch_delay: ms(20) };

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn steady(mean: u64) -> ServiceTime {
        ServiceTime { mean: ms(mean), upper_bound: ms(mean) }
    }

    fn load(threads: usize, mean: u64, begun: &[Instant], waiting: usize, batch_was_full: bool) -> Load {
        Load {
            threads,
            service_time: Some(steady(mean)),
            begun: begun.to_vec(),
            waiting,
            batch_was_full,
            batching: ms(0),
        }
    }

    #[tokio::test]
    async fn an_idle_worker_polls_for_one_job_per_thread() {
        let now = Instant::now();
        for service_time in [None, Some(steady(1)), Some(steady(25))] {
            let load =
                Load { threads: 2, service_time, begun: vec![], waiting: 0, batch_was_full: false, batching: ms(0) };
            assert_eq!(PREFETCH.decide(&load, now), PollDecision::Now(2), "{service_time:?}");
        }
    }

    #[tokio::test]
    async fn a_busy_worker_prefetches_only_after_a_full_batch() {
        let now = Instant::now() + ms(1_000);
        let begun = [now - ms(21), now - ms(12)]; // free in 4 ms and in 13 ms
        assert_eq!(PREFETCH.decide(&load(2, 25, &begun, 0, true), now), PollDecision::Now(2));
        assert_eq!(PREFETCH.decide(&load(2, 25, &begun, 0, false), now), PollDecision::Later);
        assert_eq!(PREFETCH.decide(&load(3, 25, &begun, 0, false), now), PollDecision::Now(1));
        // What is in flight already takes the first thread.
        assert_eq!(PREFETCH.decide(&load(2, 25, &begun, 1, true), now), PollDecision::At(now + ms(8)));
    }

    #[tokio::test]
    async fn an_overdue_job_is_expected_to_finish_now_until_its_upper_bound() {
        let now = Instant::now() + ms(1_000);
        let service_time = Some(ServiceTime { mean: ms(10), upper_bound: ms(60) });
        let load = |begun| Load { threads: 2, service_time, begun, waiting: 0, batch_was_full: true, batching: ms(0) };
        assert_eq!(PREFETCH.decide(&load(vec![now - ms(59), now]), now), PollDecision::Now(4));
        assert_eq!(PREFETCH.decide(&load(vec![now - ms(61), now - ms(61)]), now), PollDecision::Later);
    }

    #[tokio::test]
    async fn short_jobs_share_a_call() {
        let now = Instant::now();
        assert_eq!(PREFETCH.decide(&load(3, 12, &[], 0, true), now), PollDecision::Now(6));
        // Capped per thread, in case the jobs turn out to be long.
        assert_eq!(PREFETCH.decide(&load(2, 1, &[], 0, true), now), PollDecision::Now(2 * PER_THREAD));
        assert_eq!(PREFETCH.decide(&load(32, 1, &[], 0, true), now), PollDecision::Now(MAX_BATCH));
    }

    #[tokio::test]
    async fn jobs_share_a_call_while_the_queue_refuses_calls() {
        let now = Instant::now() + ms(1_000);
        let begun = [now - ms(148), now - ms(70)];
        let refused = |batching| Load { batching: ms(batching), ..load(2, 150, &begun, 0, true) };
        let polled = |batching| PREFETCH.decide(&refused(batching), now);
        assert_eq!([0, 50, 100, 200].map(polled), [1, 1, 2, 3].map(PollDecision::Now));
        assert_eq!([400, 1_000].map(polled), [6, 2 * PER_THREAD_IF_REFUSED].map(PollDecision::Now));
    }

    #[tokio::test]
    async fn nothing_is_prefetched_before_a_service_time_is_known() {
        let now = Instant::now();
        let load = Load {
            threads: 1,
            service_time: None,
            begun: vec![now],
            waiting: 0,
            batch_was_full: true,
            batching: ms(0),
        };
        assert_eq!(PREFETCH.decide(&load, now + ms(900)), PollDecision::Later);
    }

    proptest! {
        /// Jobs that take the mean service time, from a queue that is never empty and answers immediately.
        #[test]
        fn no_job_waits_longer_than_the_prefetch_delay_and_no_thread_waits(
            threads in 1usize..9, mean in 1u64..80, step in 1u64..3, steps in 50usize..200,
        ) {
            let start = Instant::now();
            let (mut begun, mut waiting): (Vec<Instant>, Vec<Instant>) = (vec![], vec![]);
            for at in 0..steps {
                let now = start + ms(at as u64 * step);
                begun.retain(|b| *b + ms(mean) > now);
                let begin = |begun: &mut Vec<Instant>, waiting: &mut Vec<Instant>| {
                    while begun.len() < threads && !waiting.is_empty() {
                        let received = waiting.remove(0);
                        // This loop notices up to one step late that a thread is free, and so once for each job that
                        // the thread begins before this one.
                        let late = ms(step) * (1 + PREFETCH.max_prefetch_delay.as_millis() as u32 / mean as u32);
                        assert!(now - received <= PREFETCH.max_prefetch_delay + late, "held for {:?}", now - received);
                        begun.push(now);
                    }
                };
                begin(&mut begun, &mut waiting);
                while let PollDecision::Now(n) = PREFETCH.decide(&load(threads, mean, &begun, waiting.len(), true), now) {
                    prop_assert!((1..=MAX_BATCH).contains(&n));
                    waiting.extend(std::iter::repeat_n(now, n));
                    begin(&mut begun, &mut waiting);
                }
                prop_assert_eq!(begun.len(), threads, "a thread has nothing to do");
                prop_assert!(waiting.len() <= PER_THREAD * threads);
            }
        }
    }
}

//! Batches the entries of concurrent callers into few API calls, with an adaptive linger.
//!
//! The first entry of a batch lingers for others, as with Kafka's `linger.ms`, but only if others have been arriving
//! recently. A lone caller waits [`MIN_LINGER`], not the whole batching window.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::cloud::{CloudError, CloudResult};

/// Entries that may wait for a batch; beyond that, callers wait to submit.
const MAX_WAITING: usize = 1_024;
/// Calls in flight at the same time; beyond that, batches wait.
const MAX_CALLS: usize = 32;
/// Share of recent batches that others must have joined for the full linger to pay off.
const MIN_HIT_RATE: f32 = 0.25;
/// Hit rate assumed before there are observations.
const FIRST_HIT_RATE: f32 = 0.5;
/// Linger when no other caller is expected: long enough for the rest of the caller's own entries.
const MIN_LINGER: Duration = Duration::from_millis(1);

/// Limits of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Entries per call.
    pub(super) entries: usize,
    /// Sum of the entries' weights, in bytes. A single entry is sent regardless of its weight.
    pub(super) weight: usize,
    /// Batching window: how long the first entry of a batch waits for others.
    pub(super) linger: Duration,
}

/// Makes one API call; resolves to one result per entry, in order.
pub(super) type Call<T> = Arc<dyn Fn(Vec<T>) -> BoxFuture<'static, Vec<CloudResult<()>>> + Send + Sync>;

struct Waiting<T> {
    entry: T,
    weight: usize,
    done: oneshot::Sender<CloudResult<()>>,
}

/// Estimates how often the first entry of a batch is joined by another within the batching window.
///
/// The estimate is an exponential moving average with weight 1/8 for the latest batch, like the round-trip estimate of
/// RFC 6298. A batch that did not linger counts as a hit if the next entry arrived within its window.
struct ArrivalEstimator {
    hit_rate: f32,
    /// Arrival of the latest batch's first entry.
    first: Option<Instant>,
    /// Whether another entry joined that batch.
    joined: bool,
}

impl ArrivalEstimator {
    fn new() -> Self {
        Self { hit_rate: FIRST_HIT_RATE, first: None, joined: false }
    }

    /// Records the arrival of a batch's first entry and returns how long it should wait for others.
    fn linger(&mut self, now: Instant, window: Duration) -> Duration {
        if let Some(first) = self.first.replace(now) {
            let hit = std::mem::take(&mut self.joined) || now - first <= window;
            self.hit_rate += (if hit { 1.0 } else { 0.0 } - self.hit_rate) / 8.0;
        }
        if self.hit_rate >= MIN_HIT_RATE { window } else { window.min(MIN_LINGER) }
    }

    /// Records that another entry joined the latest batch.
    fn joined(&mut self) {
        self.joined = true;
    }
}

/// Batches entries into calls.
///
/// A task collects the batches; it ends once the batcher is dropped and everything submitted has been sent.
pub(super) struct Batcher<T> {
    entries: mpsc::Sender<Waiting<T>>,
    weigh: fn(&T) -> usize,
}

impl<T: Send + 'static> Batcher<T> {
    /// Starts a batcher; must be called within a Tokio runtime. `weigh` returns an entry's weight for
    /// [`Limits::weight`].
    pub(super) fn new(limits: Limits, weigh: fn(&T) -> usize, call: Call<T>) -> Self {
        let (entries, inbox) = mpsc::channel(MAX_WAITING);
        tokio::spawn(collect(limits, inbox, call));
        Self { entries, weigh }
    }

    /// Submits entries and waits until they are sent. Returns one result per entry, in order.
    pub(super) async fn submit(&self, batch: Vec<T>) -> Vec<CloudResult<()>> {
        let mut results = Vec::with_capacity(batch.len());
        for entry in batch {
            let (done, result) = oneshot::channel();
            let weight = (self.weigh)(&entry);
            // If this fails, dropping `done` yields a result.
            let _ = self.entries.send(Waiting { entry, weight, done }).await;
            results.push(result);
        }
        let ended = || CloudError::Unavailable("the program is ending".into());
        join_all(results).await.into_iter().map(|result| result.unwrap_or_else(|_| Err(ended()))).collect()
    }
}

async fn collect<T: Send + 'static>(limits: Limits, mut inbox: mpsc::Receiver<Waiting<T>>, call: Call<T>) {
    let calls = Arc::new(Semaphore::new(MAX_CALLS));
    let mut arrivals = ArrivalEstimator::new();
    let mut next = inbox.recv().await;
    while let Some(first) = next.take() {
        let now = Instant::now();
        let until = now + arrivals.linger(now, limits.linger);
        let mut weight = first.weight;
        let mut batch = vec![first];
        let mut open = true;
        while batch.len() < limits.entries && open {
            match timeout_at(until, inbox.recv()).await {
                Ok(Some(entry)) if weight + entry.weight <= limits.weight => {
                    weight += entry.weight;
                    batch.push(entry);
                    arrivals.joined();
                }
                Ok(Some(entry)) => {
                    next = Some(entry);
                    break;
                }
                Ok(None) => open = false,
                Err(_) => break,
            }
        }
        let permit = calls.clone().acquire_owned().await;
        let call = call.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let (entries, waiting): (Vec<T>, Vec<_>) = batch.into_iter().map(|w| (w.entry, w.done)).unzip();
            for (done, result) in waiting.into_iter().zip(call(entries).await) {
                let _ = done.send(result); // the caller may be gone
            }
        });
        if next.is_none() && open {
            next = inbox.recv().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::time::sleep;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(5);

    /// The batches of all calls, in order.
    type Calls = Arc<Mutex<Vec<Vec<usize>>>>;

    /// Returns a batcher of numbers, each of which is its own weight. Its calls are recorded, and odd numbers fail.
    fn batcher(entries: usize, weight: usize) -> (Batcher<usize>, Calls) {
        let calls = Calls::default();
        let call: Call<usize> = {
            let calls = calls.clone();
            Arc::new(move |batch: Vec<usize>| {
                calls.lock().unwrap().push(batch.clone());
                let odd = |n: usize| if n % 2 == 1 { Err(CloudError::Invalid(n.to_string())) } else { Ok(()) };
                Box::pin(async move { batch.into_iter().map(odd).collect() })
            })
        };
        (Batcher::new(Limits { entries, weight, linger: WINDOW }, |n| *n, call), calls)
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_callers_share_calls_and_get_their_own_results() {
        let (batcher, calls) = batcher(10, usize::MAX);
        let results = join_all((0..25).map(|n| batcher.submit(vec![n]))).await;
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(result[0].is_ok(), n % 2 == 0, "{n}");
        }
        let sizes: Vec<usize> = calls.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [10, 10, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_linger_adapts_to_how_often_others_arrive() {
        let (batcher, calls) = batcher(10, usize::MAX);
        // Returns how long an entry waits if it is submitted after a pause, in milliseconds of the paused clock.
        let lone = async |pause| {
            sleep(Duration::from_millis(pause)).await;
            let started = Instant::now();
            assert_eq!(batcher.submit(vec![2]).await, [Ok(())]);
            started.elapsed().as_millis()
        };
        assert!((5..=6).contains(&lone(0).await), "no observations yet");
        for _ in 0..8 {
            lone(50).await;
        }
        assert!((1..=2).contains(&lone(50).await), "no other caller arrived");
        let before = calls.lock().unwrap().len();
        for _ in 0..8 {
            sleep(Duration::from_millis(50)).await;
            let second = async {
                sleep(Duration::from_millis(3)).await;
                batcher.submit(vec![4]).await
            };
            tokio::join!(batcher.submit(vec![2]), second);
        }
        let pairs = calls.lock().unwrap()[before..].iter().filter(|call| call.len() == 2).count();
        assert!(pairs >= 5, "{pairs} of 8 pairs share a call");
    }

    #[test]
    fn the_hit_rate_is_a_moving_average_over_joined_and_close_arrivals() {
        let (mut arrivals, mut now) = (ArrivalEstimator::new(), Instant::now());
        let mut first = |pause, joined| {
            now += pause;
            let linger = arrivals.linger(now, WINDOW);
            if joined {
                arrivals.joined();
            }
            linger
        };
        // 0.5 · (7/8)^n falls below a quarter with the sixth miss.
        let lingers: Vec<Duration> = (0..7).map(|_| first(WINDOW * 2, false)).collect();
        assert_eq!(lingers, [[WINDOW; 6].as_slice(), &[MIN_LINGER]].concat());
        // An arrival just within the window of the one before is a hit, and so is a batch that was joined.
        assert_eq!(first(WINDOW, true), WINDOW);
        assert_eq!(first(WINDOW * 2, false), WINDOW);
        // No linger is longer than the window.
        let mut idle = ArrivalEstimator { hit_rate: 0.0, ..ArrivalEstimator::new() };
        assert_eq!(idle.linger(now, Duration::ZERO), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_exceeds_the_weight_limit_unless_a_single_entry_does() {
        let (batcher, calls) = batcher(10, 10);
        assert_eq!(batcher.submit(vec![4, 6, 2, 90, 8]).await, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(*calls.lock().unwrap(), [vec![4, 6], vec![2], vec![90], vec![8]]);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_in_flight_are_limited() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let call: Call<usize> = {
            let most = most.clone();
            Arc::new(move |batch: Vec<usize>| {
                let (running, most) = (running.clone(), most.clone());
                Box::pin(async move {
                    most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    sleep(Duration::from_secs(1)).await;
                    running.fetch_sub(1, Ordering::Relaxed);
                    vec![Ok(()); batch.len()]
                })
            })
        };
        let batcher = Batcher::new(Limits { entries: 1, weight: 1, linger: WINDOW }, |_| 0, call);
        assert_eq!(batcher.submit(vec![0; MAX_CALLS * 2 + 1]).await, vec![Ok(()); MAX_CALLS * 2 + 1]);
        assert_eq!(most.load(Ordering::Relaxed), MAX_CALLS);
    }

    #[tokio::test(start_paused = true)]
    async fn submitted_entries_are_sent_after_the_batcher_is_dropped() {
        let (batcher, calls) = batcher(10, usize::MAX);
        let batcher = Arc::new(batcher);
        let submitted = tokio::spawn({
            let batcher = batcher.clone();
            async move { batcher.submit(vec![2, 4]).await }
        });
        tokio::task::yield_now().await;
        drop(batcher);
        assert_eq!(submitted.await.unwrap(), [Ok(()), Ok(())]);
        assert_eq!(calls.lock().unwrap().len(), 1);
    }
}

//! Many small calls made into few: entries of concurrent callers wait a few milliseconds for company and go to the cloud
//! in one call, each with its own result. An entry that can expect no company does not wait for it.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::cloud::{CloudError, CloudResult};

/// Entries that may wait to be taken into a batch; callers beyond that wait in line.
const WAITING: usize = 1_024;
/// Calls under way at once; more entries wait.
const CALLS: usize = 32;
/// A wait for company is worth it where it brings some at least this often.
const MIN_HIT_RATE: f32 = 0.25;
/// How long an entry waits that expects no company: those of its own caller are on their way.
const MIN_LINGER: Duration = Duration::from_millis(1);

/// What one call may carry.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    /// Sum of the entries' weights (bytes). A single entry is sent whatever it weighs.
    pub weight: usize,
    /// How long the first entry waits for others.
    pub linger: Duration,
}

/// Makes one call; a result for each entry, in order.
pub type Call<T> = Arc<dyn Fn(Vec<T>) -> BoxFuture<'static, Vec<CloudResult<()>>> + Send + Sync>;

struct Waiting<T> {
    entry: T,
    weight: usize,
    done: oneshot::Sender<CloudResult<()>>,
}

/// How often, lately, an entry that came first had company within the linger, or would have had. An exponential average
/// in which the latest counts an eighth (as the round trip's in RFC 6298).
struct ArrivalEstimator {
    odds: f32,
    /// When the latest first entry came, and whether others joined it.
    first: Option<Instant>,
    joined: bool,
}

impl ArrivalEstimator {
    /// Whether the entry that has come first now shall wait for others.
    fn expected(&mut self, now: Instant, linger: Duration) -> bool {
        if let Some(first) = self.first.replace(now) {
            let came = std::mem::take(&mut self.joined) || now - first <= linger;
            self.odds += (if came { 1.0 } else { 0.0 } - self.odds) / 8.0;
        }
        self.odds >= MIN_HIT_RATE
    }
}

/// See the module. The task behind it ends when the last handle is dropped, after what was submitted is done.
pub struct Batcher<T> {
    entries: mpsc::Sender<Waiting<T>>,
    weigh: fn(&T) -> usize,
}

impl<T: Send + 'static> Batcher<T> {
    /// `weigh`: an entry's weight, as [`Limits::weight`] counts it.
    pub fn new(limits: Limits, weigh: fn(&T) -> usize, call: Call<T>) -> Self {
        let (entries, inbox) = mpsc::channel(WAITING);
        tokio::spawn(collect(limits, inbox, call));
        Self { entries, weigh }
    }

    /// One result an entry, in order.
    pub async fn submit(&self, batch: Vec<T>) -> Vec<CloudResult<()>> {
        let mut answers = Vec::with_capacity(batch.len());
        for entry in batch {
            let (done, answer) = oneshot::channel();
            let weight = (self.weigh)(&entry);
            let _ = self.entries.send(Waiting { entry, weight, done }).await; // a task that is gone drops `done`: an answer
            answers.push(answer);
        }
        let gone = || CloudError::Unavailable("the program is ending".into());
        join_all(answers).await.into_iter().map(|answer| answer.unwrap_or_else(|_| Err(gone()))).collect()
    }
}

async fn collect<T: Send + 'static>(limits: Limits, mut inbox: mpsc::Receiver<Waiting<T>>, call: Call<T>) {
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut next = inbox.recv().await;
    let mut company = ArrivalEstimator { odds: 0.5, first: None, joined: false };
    while let Some(first) = next.take() {
        let now = Instant::now();
        let wait = if company.expected(now, limits.linger) { limits.linger } else { limits.linger.min(MIN_LINGER) };
        let until = now + wait;
        let mut weight = first.weight;
        let mut batch = vec![first];
        let mut open = true;
        while batch.len() < limits.entries && open {
            match timeout_at(until, inbox.recv()).await {
                Ok(Some(entry)) if weight + entry.weight <= limits.weight => {
                    weight += entry.weight;
                    batch.push(entry);
                    company.joined = true;
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
                let _ = done.send(result); // whoever asked may not wait any more
            }
        });
        if next.is_none() && open {
            next = inbox.recv().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::sleep;

    use super::*;

    /// Batches, in order.
    type Noted = Arc<Mutex<Vec<Vec<usize>>>>;

    /// Fails odd numbers; notes each call.
    fn batcher(entries: usize, weight: usize) -> (Batcher<usize>, Noted) {
        let calls = Noted::default();
        let call: Call<usize> = {
            let calls = calls.clone();
            Arc::new(move |batch: Vec<usize>| {
                calls.lock().unwrap().push(batch.clone());
                let odd = |n: usize| if n % 2 == 1 { Err(CloudError::Invalid(n.to_string())) } else { Ok(()) };
                Box::pin(async move { batch.into_iter().map(odd).collect() })
            })
        };
        let linger = Duration::from_millis(5);
        (Batcher::new(Limits { entries, weight, linger }, |n| *n, call), calls)
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_calls_and_each_gets_its_own_results() {
        let (batcher, calls) = batcher(10, usize::MAX);
        let results = join_all((0..25).map(|n| batcher.submit(vec![n]))).await;
        for (n, result) in results.into_iter().enumerate() {
            assert_eq!(result[0].is_ok(), n % 2 == 0, "{n}");
        }
        let sizes: Vec<usize> = calls.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [10, 10, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_company_is_given_up_where_none_comes_and_taken_up_where_some_does() {
        let (batcher, calls) = batcher(10, usize::MAX);
        // How long an entry waits that comes this long after the one before, on the paused clock; milliseconds.
        let lone = async |pause| {
            sleep(Duration::from_millis(pause)).await;
            let started = Instant::now();
            assert_eq!(batcher.submit(vec![2]).await, [Ok(())]);
            started.elapsed().as_millis()
        };
        assert!((5..=6).contains(&lone(0).await), "nothing is known yet");
        for _ in 0..8 {
            lone(50).await;
        }
        assert!((1..=2).contains(&lone(50).await), "none came");
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

    #[tokio::test(start_paused = true)]
    async fn no_call_is_heavier_than_allowed_unless_one_entry_is() {
        let (batcher, calls) = batcher(10, 10);
        assert_eq!(batcher.submit(vec![4, 6, 2, 90, 8]).await, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(*calls.lock().unwrap(), [vec![4, 6], vec![2], vec![90], vec![8]]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_submitted_is_done_after_the_batcher_is_dropped() {
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

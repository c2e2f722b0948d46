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
/// Company is expected where the entry before came within so many times the linger: at a steady pace slower than that,
/// less than a third of the waits would be of any use.
const EXPECTED: u32 = 3;
/// How long an entry waits that expects no company: those of its own caller are on their way.
const GLANCE: Duration = Duration::from_millis(1);

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
    let mut latest: Option<Instant> = None;
    while let Some(first) = next.take() {
        let now = Instant::now();
        let company = latest.replace(now).is_some_and(|before| now - before <= EXPECTED * limits.linger);
        let until = now + if company { limits.linger } else { limits.linger.min(GLANCE) };
        let mut weight = first.weight;
        let mut batch = vec![first];
        let mut open = true;
        while batch.len() < limits.entries && open {
            match timeout_at(until, inbox.recv()).await {
                Ok(Some(entry)) if weight + entry.weight <= limits.weight => {
                    weight += entry.weight;
                    batch.push(entry);
                    latest = Some(Instant::now());
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
    async fn an_entry_waits_for_company_only_where_one_came_shortly_before() {
        let (batcher, calls) = batcher(10, usize::MAX);
        // The pause before each entry, and how long it then waits, on the paused clock; milliseconds.
        for (pause, waits) in [(0, 1), (8, 5), (8, 5), (100, 1)] {
            sleep(Duration::from_millis(pause)).await;
            let started = Instant::now();
            assert_eq!(batcher.submit(vec![2]).await, [Ok(())]);
            assert!((waits..=waits + 1).contains(&started.elapsed().as_millis()), "after {pause} ms");
        }
        assert_eq!(calls.lock().unwrap().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn entries_at_a_steady_pace_share_calls_after_the_first() {
        let (batcher, calls) = batcher(10, usize::MAX);
        let at = |n: u64| {
            let batcher = &batcher;
            async move {
                sleep(Duration::from_millis(2 * n)).await;
                batcher.submit(vec![n as usize]).await
            }
        };
        join_all((0..7).map(at)).await;
        let sizes: Vec<usize> = calls.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 3, 3]);
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

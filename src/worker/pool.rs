//! A pool of threads for work that blocks or uses the CPU, each with its own task.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot};

use crate::job::{Failure, FailureKind};

/// The task of one thread. Created on the thread that uses it, so it need not be `Send`.
pub type Task<I, O> = Box<dyn FnMut(I) -> Result<O, Failure>>;

/// Creates a thread's task, warmed up, so that the first input is processed as fast as later ones.
pub type Factory<I, O> = Arc<dyn Fn() -> anyhow::Result<Task<I, O>> + Send + Sync>;

/// The outcome of one input.
#[derive(Debug)]
pub struct Finished<O> {
    /// The output, or why there is none.
    pub outcome: Result<O, Failure>,
    /// How long a thread was busy with it.
    pub took: Duration,
}

struct Request<I, O> {
    input: I,
    /// Notified when a thread begins.
    begun: Option<oneshot::Sender<()>>,
    answer: oneshot::Sender<Finished<O>>,
}

type Requests<I, O> = Arc<Mutex<mpsc::Receiver<Request<I, O>>>>;

/// A handle to the threads; dropping the last handle ends them after their current input.
pub struct Pool<I, O> {
    requests: mpsc::Sender<Request<I, O>>,
}

impl<I, O> Clone for Pool<I, O> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

impl<I: Send + 'static, O: Send + 'static> Pool<I, O> {
    /// Starts `threads` threads and returns when each has created its task.
    ///
    /// # Errors
    /// A thread cannot be started, or a task cannot be created; the threads end.
    pub async fn start(threads: usize, factory: Factory<I, O>) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel(threads);
        let requests = Arc::new(Mutex::new(receiver));
        let mut ready = Vec::with_capacity(threads);
        for number in 0..threads {
            let (started, warm) = oneshot::channel();
            let (factory, requests) = (factory.clone(), requests.clone());
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || serve(&factory, &requests, started))
                .context("a worker thread could not be started")?;
            ready.push(warm);
        }
        for warm in ready {
            warm.await.context("a worker thread ended while it started")??;
        }
        Ok(Self { requests: sender })
    }

    /// Runs `input` on the next free thread and notifies `begun` when the thread begins it.
    ///
    /// A panic is an `Internal` failure; the thread continues with a new task. The channel holds one waiting input per
    /// thread; further callers wait here, in order. An input whose future is dropped before a thread takes it is not
    /// run.
    pub async fn run(&self, input: I, begun: Option<oneshot::Sender<()>>) -> Finished<O> {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request { input, begun, answer }).await.is_ok()
            && let Ok(finished) = answered.await
        {
            return finished;
        }
        let failure = Failure::new(FailureKind::Internal, "the worker threads have ended");
        Finished { outcome: Err(failure), took: Duration::ZERO }
    }
}

/// Serves requests on one thread until every handle is dropped.
#[expect(clippy::disallowed_methods, reason = "measures how long a job takes")]
fn serve<I, O>(factory: &Factory<I, O>, requests: &Requests<I, O>, started: oneshot::Sender<anyhow::Result<()>>) {
    let mut task = match make(factory) {
        Ok(task) => Some(task),
        Err(error) => {
            // The receiver is gone if another thread has failed before: one error is enough.
            let _ = started.send(Err(error));
            return;
        }
    };
    if started.send(Ok(())).is_err() {
        return;
    }
    while let Some(Request { input, begun, answer }) = next(requests) {
        if answer.is_closed() {
            continue;
        }
        if let Some(begun) = begun {
            let _ = begun.send(()); // the receiver may be gone
        }
        let start = Instant::now();
        let outcome = match task.take().map_or_else(|| make(factory), Ok) {
            Ok(mut ready) => {
                // A task that has panicked is dropped, so that no inconsistent state is used again.
                let outcome = catch_unwind(AssertUnwindSafe(|| ready(input)));
                task = outcome.is_ok().then_some(ready);
                outcome.unwrap_or_else(|_| Err(panicked()))
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "job handler not rebuilt");
                Err(Failure::new(FailureKind::Internal, "the job handler could not be rebuilt after a fault"))
            }
        };
        // The caller may be gone.
        let _ = answer.send(Finished { outcome, took: start.elapsed() });
    }
}

/// Waits for the next request; idle threads queue for the lock. `None` when every handle is dropped.
fn next<I, O>(requests: &Requests<I, O>) -> Option<Request<I, O>> {
    // Receiving does not panic, so a poisoned lock has no inconsistent state.
    requests.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

fn make<I, O>(factory: &Factory<I, O>) -> anyhow::Result<Task<I, O>> {
    catch_unwind(AssertUnwindSafe(|| factory())).unwrap_or_else(|_| Err(anyhow::anyhow!(panicked())))
}

fn panicked() -> Failure {
    tracing::error!("a job panicked");
    Failure::new(FailureKind::Internal, "the job failed because of a fault in this program")
}

//! Threads that run models, one recogniser each.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{Recogniser, RecogniserFactory, gallery::Gallery};
use crate::recognition::{Failure, FailureKind, Recognition};

/// One image for the pool.
pub struct Work {
    pub image: Bytes,
    pub gallery: Arc<Gallery>,
    /// Answer with embeddings.
    pub embeddings: bool,
    /// Told when a thread begins with it.
    pub begun: Option<oneshot::Sender<()>>,
}

struct Request {
    work: Work,
    answer: oneshot::Sender<Result<Recognition, Failure>>,
}

type Requests = Arc<Mutex<mpsc::Receiver<Request>>>;

/// A handle to the threads; dropping the last one ends them after their current image.
#[derive(Clone)]
pub struct Pool {
    requests: mpsc::Sender<Request>,
}

impl Pool {
    /// Starts `threads` threads and returns when every one has built and warmed its recogniser.
    ///
    /// # Errors
    /// The first recogniser that could not be built; the threads end.
    pub async fn start(threads: usize, factory: Arc<dyn RecogniserFactory>) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel(threads);
        let requests = Arc::new(Mutex::new(receiver));
        let mut ready = Vec::with_capacity(threads);
        for number in 0..threads {
            let (started, warm) = oneshot::channel();
            let (factory, requests) = (factory.clone(), requests.clone());
            std::thread::Builder::new()
                .name(format!("inference-{number}"))
                .spawn(move || run(&*factory, &requests, started))
                .context("a thread for inference could not be started")?;
            ready.push(warm);
        }
        for warm in ready {
            warm.await.context("a thread for inference ended while it started")??;
        }
        Ok(Self { requests: sender })
    }

    /// Recognises on the next free thread. A panic in the model is an `Internal` failure; the thread goes on with a
    /// new recogniser. As many as there are threads may wait inside; more wait here, in order. Work whose future
    /// was dropped before a thread took it is not done.
    pub async fn run(&self, work: Work) -> Result<Recognition, Failure> {
        let (answer, answered) = oneshot::channel();
        let gone = || Failure::new(FailureKind::Internal, "the threads for inference have ended");
        self.requests.send(Request { work, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The life of one thread.
fn run(factory: &dyn RecogniserFactory, requests: &Requests, started: oneshot::Sender<anyhow::Result<()>>) {
    let mut recogniser = match build(factory) {
        Ok(recogniser) => Some(recogniser),
        Err(error) => {
            // Nobody listens if another thread has failed before: one error is enough.
            let _ = started.send(Err(error));
            return;
        }
    };
    if started.send(Ok(())).is_err() {
        return;
    }
    while let Some(Request { mut work, answer }) = next(requests) {
        if answer.is_closed() {
            continue;
        }
        if let Some(begun) = work.begun.take() {
            let _ = begun.send(()); // nobody need listen
        }
        let outcome = match recogniser.take().map_or_else(|| build(factory), Ok) {
            Ok(mut ready) => {
                // A recogniser that has panicked is thrown away, so nothing half done is used again.
                let outcome =
                    catch_unwind(AssertUnwindSafe(|| ready.recognise(&work.image, &work.gallery, work.embeddings)));
                recogniser = outcome.is_ok().then_some(ready);
                outcome.unwrap_or_else(|_| Err(panicked()))
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "recogniser not rebuilt");
                Err(Failure::new(FailureKind::Internal, "the model could not be loaded again after a fault"))
            }
        };
        // Whoever asked may have gone meanwhile.
        let _ = answer.send(outcome);
    }
}

/// The next request; idle threads queue for the lock. `None` when every handle is gone.
fn next(requests: &Requests) -> Option<Request> {
    // Receiving does not panic, so the lock is never left poisoned with something half done.
    requests.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

fn build(factory: &dyn RecogniserFactory) -> anyhow::Result<Box<dyn Recogniser>> {
    catch_unwind(AssertUnwindSafe(|| factory.build())).unwrap_or_else(|_| Err(anyhow::anyhow!(panicked())))
}

fn panicked() -> Failure {
    tracing::error!("the model panicked");
    Failure::new(FailureKind::Internal, "the recognition failed by a fault of this program; the next one starts afresh")
}

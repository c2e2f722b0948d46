//! Threads that run models, one recogniser each.

use std::sync::Arc;

use bytes::Bytes;

use super::{RecogniserFactory, gallery::Gallery};
use crate::recognition::{Failure, Recognition};

/// One image for the pool.
pub struct Work {
    pub image: Bytes,
    pub gallery: Arc<Gallery>,
    /// Answer with embeddings.
    pub embeddings: bool,
}

/// A handle to the threads; dropping the last one ends them after their current image.
#[derive(Clone)]
pub struct Pool {}

impl Pool {
    /// Starts `threads` threads and returns when every one has built and warmed its recogniser.
    pub async fn start(_threads: usize, _factory: Arc<dyn RecogniserFactory>) -> anyhow::Result<Self> {
        todo!()
    }

    /// Recognises on the next free thread. A panic in the model is an `Internal` failure; the thread goes on.
    /// At most `threads` + a small bound may wait; callers ask for no more than there are threads.
    pub async fn run(&self, _work: Work) -> Result<Recognition, Failure> {
        todo!()
    }
}

//! Recognisers on several threads, for commands that recognise many images.

use std::sync::Arc;

use bytes::Bytes;

use super::{RecogniserFactory, gallery::Gallery};
use crate::{
    recognition::Recognition,
    worker::pool::{self, Task},
};

/// One image to recognise.
pub struct Work {
    /// The encoded image.
    pub image: Bytes,
    /// The known people.
    pub gallery: Arc<Gallery>,
    /// Whether each face carries its embedding.
    pub embeddings: bool,
}

/// Threads with one recogniser each.
pub type Pool = pool::Pool<Work, Recognition>;

/// Starts `threads` threads and returns when every one has built and warmed its recogniser.
///
/// # Errors
/// A thread cannot be started, or a recogniser cannot be built.
pub async fn start(threads: usize, recognisers: Arc<dyn RecogniserFactory>) -> anyhow::Result<Pool> {
    let factory = move || {
        let mut recogniser = recognisers.build()?;
        let task: Task<Work, Recognition> =
            Box::new(move |work| recogniser.recognise(&work.image, &work.gallery, work.embeddings));
        Ok(task)
    };
    Pool::start(threads, Arc::new(factory)).await
}

//! From bytes of an image to what is in it: decode, find faces, align, embed, name. No actors, no queues.

pub mod align;
pub mod classifier;
pub mod decode;
pub mod detector;
pub mod embedder;
pub mod evaluation;
pub mod face;
pub mod factory;
pub mod gallery;
pub mod gallery_cache;
pub mod gallery_store;
pub mod handler;
mod jpeg;
pub mod pool;
mod runtime;

use crate::{job::Failure, recognition::Recognition};
use gallery::Gallery;

/// A model that says what is in an image. There is one per thread: sessions are not shared.
pub trait Recogniser: Send {
    /// Returns everything found in an encoded image, named by `gallery`. With `embeddings`, each face carries its own.
    fn recognise(&mut self, image: &[u8], gallery: &Gallery, embeddings: bool) -> Result<Recognition, Failure>;
}

/// Makes recognisers, each warmed (it has run once) so that the first job is as fast as the next.
pub trait RecogniserFactory: Send + Sync + 'static {
    fn build(&self) -> anyhow::Result<Box<dyn Recogniser>>;
}

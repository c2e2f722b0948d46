//! Recognises images: decodes them, detects faces, aligns, embeds and names them, or classifies. No actors, no queues.

mod classifier;
mod detector;
pub mod embedder;
pub mod evaluation;
mod face;
pub mod factory;
pub mod false_accept;
pub mod gallery;
pub mod handler;
pub mod model;
pub mod photo_quality;
pub mod pool;
mod runtime;

pub use rollcall_embeddings as embeddings;
pub use rollcall_vision as vision;

use crate::{
    job::{Failure, FailureKind},
    recognition::{ModelId, Recognition},
};
use gallery::Gallery;
use vision::decode_error::{DecodeError, Fault};

/// Recognises images with a model. Each thread has its own, because sessions are not shared.
pub trait Recogniser: Send {
    /// Returns the id of the model that embeds faces; `None` if it does not embed.
    fn model(&self) -> Option<&ModelId> {
        None
    }

    /// Recognises an encoded image (JPEG, PNG or WebP) and names its faces from `gallery`. With `embeddings`, each face
    /// has its embedding.
    ///
    /// # Errors
    /// The image cannot be decoded, the model fails, or its embeddings cannot be compared with those of the gallery.
    fn recognise(&mut self, image: &[u8], gallery: &Gallery, embeddings: bool) -> Result<Recognition, Failure>;
}

/// Builds recognisers. Each has run once, so that its first image is as fast as the next.
pub trait RecogniserFactory: Send + Sync + 'static {
    /// Builds one recogniser.
    ///
    /// # Errors
    /// The runtime or a model is missing or does not fit; the message says what to do.
    fn build(&self) -> anyhow::Result<Box<dyn Recogniser>>;
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let kind = match error.fault {
            Fault::Unsupported => FailureKind::Unsupported,
            Fault::Damaged => FailureKind::Damaged,
            Fault::TooLarge => FailureKind::TooLarge,
        };
        Self::new(kind, error.message)
    }
}

//! The job handler that recognises images.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{RecogniserFactory, gallery_cache::GalleryCache};
use crate::{
    job::{Job, JobKind, Output, Retention},
    recognition::EMBED,
    worker::{Executor, JobHandler},
};

/// Returns what is stored of a job: nothing if its kind is [`EMBED`], otherwise everything.
pub fn retention(kind: JobKind) -> Retention {
    if kind == EMBED { Retention::Discard } else { Retention::Keep }
}

/// Recognises the images of jobs with the newest gallery.
pub struct RecognitionHandler {
    recognisers: Arc<dyn RecogniserFactory>,
    gallery: Arc<GalleryCache>,
}

impl RecognitionHandler {
    /// Reads the gallery, and refreshes it every `refresh` until the process ends.
    ///
    /// # Errors
    /// The gallery cannot be read.
    pub async fn start(
        recognisers: Arc<dyn RecogniserFactory>,
        gallery: Arc<GalleryCache>,
        refresh: Duration,
    ) -> anyhow::Result<Self> {
        gallery.refresh().await?;
        let cache = gallery.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(refresh).await;
                if let Err(error) = cache.refresh().await {
                    tracing::warn!(%error, "gallery not refreshed");
                }
            }
        });
        Ok(Self { recognisers, gallery })
    }
}

#[async_trait]
impl JobHandler for RecognitionHandler {
    fn executor(&self) -> anyhow::Result<Executor> {
        let mut recogniser = self.recognisers.build()?;
        let gallery = self.gallery.clone();
        Ok(Box::new(move |job, image| {
            let embed = job.kind == EMBED;
            // A photo that is enrolled needs no name, so a gallery that its embedding does not fit is no failure here.
            let gallery = if embed { Arc::default() } else { gallery.current() };
            let recognition = recogniser.recognise(image, &gallery, embed)?;
            Output::json(&recognition, recognition.label.clone())
        }))
    }

    fn retention(&self, kind: JobKind) -> Retention {
        retention(kind)
    }

    async fn prepare(&self, job: &Job) {
        self.gallery.at_least(job.min_version).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recognition::RECOGNISE;

    #[test]
    fn embeddings_are_not_stored() {
        assert_eq!(retention(EMBED), Retention::Discard);
        assert_eq!(retention(RECOGNISE), Retention::Keep);
    }
}

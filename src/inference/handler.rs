//! The job handler that recognises images.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    RecogniserFactory,
    gallery::{Galleries, GalleryStores},
};
use crate::{
    job::{Failure, FailureKind, Job, JobKind, Output, Retention},
    recognition::{EMBED, GalleryName, Recognition},
    worker::{Executor, JobHandler},
};

/// Returns what is stored of a job: nothing if its kind is [`EMBED`], otherwise everything.
pub fn retention(kind: JobKind) -> Retention {
    if kind == EMBED { Retention::Discard } else { Retention::Keep }
}

/// Recognises the images of jobs with the newest version of their gallery.
pub struct RecognitionHandler {
    recognisers: Arc<dyn RecogniserFactory>,
    galleries: Arc<Galleries>,
}

impl RecognitionHandler {
    /// Reads the default gallery, and refreshes all that are used every `refresh` until the process ends.
    ///
    /// # Errors
    /// The gallery cannot be read.
    pub async fn start(
        recognisers: Arc<dyn RecogniserFactory>,
        galleries: GalleryStores,
        refresh: Duration,
    ) -> anyhow::Result<Self> {
        let galleries = Arc::new(Galleries::new(galleries));
        galleries.cache(&GalleryName::default()).refresh().await?;
        let refreshed = galleries.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(refresh).await;
                refreshed.refresh().await;
            }
        });
        Ok(Self { recognisers, galleries })
    }
}

/// Returns the gallery that a job names.
fn gallery_of(job: &Job) -> Result<GalleryName, Failure> {
    if job.dataset.is_empty() {
        return Ok(GalleryName::default());
    }
    GalleryName::try_from(job.dataset.clone()).map_err(|why| Failure::new(FailureKind::Internal, why))
}

/// Returns what a job must contain to use a gallery.
pub fn dataset(gallery: &GalleryName) -> String {
    if gallery.is_default() { String::new() } else { gallery.to_string() }
}

#[async_trait]
impl JobHandler for RecognitionHandler {
    fn executor(&self) -> anyhow::Result<Executor> {
        let mut recogniser = self.recognisers.build()?;
        let galleries = self.galleries.clone();
        Ok(Box::new(move |job, image| {
            let embed = job.kind == EMBED;
            let name = gallery_of(job)?;
            // A photo that is enrolled needs no name, so a gallery that its embedding does not fit is no failure here.
            let gallery = if embed { Arc::default() } else { galleries.current(&name) };
            let recognition = Recognition { gallery: name, ..recogniser.recognise(image, &gallery, embed)? };
            Output::json(&recognition, recognition.label.clone())
        }))
    }

    fn retention(&self, kind: JobKind) -> Retention {
        retention(kind)
    }

    async fn prepare(&self, job: &Job) {
        // A name that is invalid fails the job.
        if let Ok(name) = gallery_of(job) {
            self.galleries.cache(&name).at_least(job.min_version).await;
        }
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

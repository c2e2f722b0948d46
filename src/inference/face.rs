//! Recognises faces: detects, aligns and embeds them, and names them from the gallery.

use std::{panic::resume_unwind, thread, time::Instant};

use super::{Recogniser, detector::Detector, embedder::Embedder, gallery::Gallery, vision::decode};
use crate::{
    job::{Failure, FailureKind},
    recognition::{Face, GalleryName, ModelId, NO_FACE, Recognition, Timings, UNKNOWN},
    settings::{self, Threshold},
};

/// A detector and an embedder.
pub(super) struct FaceRecogniser {
    detector: Detector,
    embedder: Embedder,
    threshold: Threshold,
    max_faces: usize,
    max_pixels: u64,
}

impl FaceRecogniser {
    /// Loads the detector, and beside it the embedder by calling `embedder`.
    ///
    /// # Errors
    /// The runtime or a model cannot be used; the message says what to do.
    pub(super) fn load(
        settings: &settings::Recognition,
        embedder: impl FnOnce() -> anyhow::Result<Embedder>,
    ) -> anyhow::Result<Self> {
        let (detector, embedder) = thread::scope(|scope| {
            let detector = scope.spawn(|| Detector::load(settings));
            let embedder = embedder();
            (detector.join().unwrap_or_else(|panic| resume_unwind(panic)), embedder)
        });
        let (embedder, detector) = (embedder?, detector?);
        Ok(Self {
            detector,
            embedder,
            threshold: settings.threshold,
            max_faces: settings.max_faces,
            max_pixels: settings.max_pixels,
        })
    }
}

/// Returns the name and the similarity of a face, given its nearest person.
fn named(nearest: Option<(&str, f32)>, threshold: f32) -> (String, Option<f32>) {
    match nearest {
        Some((name, similarity)) if similarity >= threshold => (name.to_owned(), Some(similarity)),
        other => (UNKNOWN.to_owned(), other.map(|(_, similarity)| similarity)),
    }
}

impl Recogniser for FaceRecogniser {
    fn model(&self) -> Option<&ModelId> {
        Some(self.embedder.model())
    }

    #[expect(clippy::disallowed_methods, reason = "measures its steps")]
    fn recognise(&mut self, image: &[u8], gallery: &Gallery, embeddings: bool) -> Result<Recognition, Failure> {
        gallery.check_model(self.embedder.model()).map_err(internal)?;
        let start = Instant::now();
        let pixels = decode::decode(image, self.max_pixels)?;
        let decoded = Instant::now();
        let mut detections = self.detector.detect(&pixels).map_err(internal)?;
        detections.truncate(self.max_faces);
        let detected = Instant::now();

        let threshold = gallery.threshold(self.threshold);
        let mut faces = Vec::with_capacity(detections.len());
        for found in detections {
            let Some(embedding) = self.embedder.embed(&pixels, &found.landmarks).map_err(internal)? else { continue };
            let (name, similarity) = named(gallery.nearest(&embedding).map_err(internal)?, threshold);
            faces.push(Face {
                bbox: found.bbox,
                landmarks: found.landmarks,
                score: found.score,
                name,
                similarity,
                embedding: embeddings.then_some(embedding),
            });
        }
        Ok(Recognition {
            label: faces.first().map_or(NO_FACE, |largest| &largest.name).to_owned(),
            faces,
            classes: Vec::new(),
            width: pixels.width(),
            height: pixels.height(),
            gallery: GalleryName::default(),
            gallery_version: gallery.version,
            model: Some(self.embedder.model().clone()),
            timings: Timings {
                decode_ms: millis(decoded - start),
                detect_ms: millis(detected - decoded),
                embed_ms: millis(detected.elapsed()),
            },
        })
    }
}

/// Returns a duration in milliseconds.
pub(super) fn millis(took: std::time::Duration) -> f32 {
    took.as_secs_f32() * 1e3
}

/// Turns an error of a model into a failure.
pub(super) fn internal(error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Internal, format!("the recognition failed: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_gets_the_name_of_the_nearest_person_at_or_above_the_threshold() {
        assert_eq!(named(Some(("Ada", 0.5)), 0.5), ("Ada".into(), Some(0.5)));
        assert_eq!(named(Some(("Ada", 0.49)), 0.5), (UNKNOWN.into(), Some(0.49)));
        assert_eq!(named(None, 0.5), (UNKNOWN.into(), None));
    }
}

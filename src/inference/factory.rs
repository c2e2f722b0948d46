//! Builds the recogniser that the settings select.

use std::sync::{Arc, Once};

use super::{Recogniser, RecogniserFactory, classifier::Classifier, embedder::Embedder, face::FaceRecogniser};
use crate::settings::{self, RecogniserKind};

struct BySettings {
    settings: settings::Recognition,
    /// Completed once the embedder that "auto" has chosen turned out to be unusable.
    replaced: Once,
}

impl BySettings {
    /// Loads the embedder. If "auto" has chosen it and it cannot be used, the one for any CPU takes its place, with one
    /// warning for all threads.
    fn embedder(&self) -> anyhow::Result<Embedder> {
        let Some(substitute) = self.settings.with_embedder_for_any_cpu() else {
            return Embedder::load(&self.settings);
        };
        if self.replaced.is_completed() {
            return Embedder::load(&substitute);
        }
        Embedder::load(&self.settings).or_else(|error| {
            let embedder = Embedder::load(&substitute)?;
            self.replaced.call_once(|| {
                let (reason, instead) = (format!("{error:#}"), substitute.embedder.display());
                tracing::warn!(reason, %instead, "the embedder that recognition.embedder = \"auto\" prefers is not used");
            });
            Ok(embedder)
        })
    }
}

impl RecogniserFactory for BySettings {
    fn build(&self) -> anyhow::Result<Box<dyn Recogniser>> {
        Ok(match self.settings.kind {
            RecogniserKind::Face => Box::new(FaceRecogniser::load(&self.settings, || self.embedder())?),
            RecogniserKind::Classifier => Box::new(Classifier::load(&self.settings)?),
        })
    }
}

/// Returns a factory of the recogniser that `recognition.*` selects. Nothing is loaded before the first one is built; a
/// missing library or model is then an error that says what to do.
pub fn factory(settings: &settings::Recognition) -> Arc<dyn RecogniserFactory> {
    Arc::new(BySettings { settings: settings.clone(), replaced: Once::new() })
}

//! Builds the recogniser that the settings select.

use std::sync::Arc;

use super::{Recogniser, RecogniserFactory, classifier::Classifier, face::FaceRecogniser};
use crate::settings::{self, RecogniserKind};

struct BySettings(settings::Recognition);

impl RecogniserFactory for BySettings {
    fn build(&self) -> anyhow::Result<Box<dyn Recogniser>> {
        Ok(match self.0.kind {
            RecogniserKind::Face => Box::new(FaceRecogniser::load(&self.0)?),
            RecogniserKind::Classifier => Box::new(Classifier::load(&self.0)?),
        })
    }
}

/// Returns a factory of the recogniser that `recognition.*` selects. Nothing is loaded before the first one is built; a
/// missing library or model is then an error that says what to do.
pub fn factory(settings: &settings::Recognition) -> Arc<dyn RecogniserFactory> {
    Arc::new(BySettings(settings.clone()))
}

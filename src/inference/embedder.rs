//! Embeds aligned faces with SFace (Zhong et al. 2021), as published in the OpenCV Zoo, or a model with the same input.

use anyhow::{Context as _, bail};
use image::RgbImage;
use ort::{session::Session, value::TensorRef};

use super::{align, gallery, runtime};
use crate::settings;

/// An embedder's session, and the input that it reuses.
pub struct Embedder {
    session: Session,
    /// Planar RGB from 0 to 255: the graph normalises it.
    input: Vec<f32>,
}

impl Embedder {
    /// Loads the model.
    ///
    /// # Errors
    /// The runtime or the model cannot be used; the message says what to do.
    pub fn load(settings: &settings::Recognition) -> anyhow::Result<Self> {
        let session = runtime::session(&settings.runtime, &settings.embedder, "recognition.embedder")?;
        check_model(&session)
            .with_context(|| format!("{} (recognition.embedder) does not embed faces", settings.embedder.display()))?;
        Ok(Self { session, input: vec![0.0; 3 * align::SIDE * align::SIDE] })
    }

    /// Returns the embedding of the face at `landmarks`, of unit length. `None` if the landmarks cannot be aligned, or
    /// the embedding is zero or not finite.
    ///
    /// # Errors
    /// The model fails.
    pub fn embed(&mut self, image: &RgbImage, landmarks: &[[f32; 2]; 5]) -> anyhow::Result<Option<Vec<f32>>> {
        if align::align(image, landmarks, &mut self.input).is_none() {
            return Ok(None);
        }
        let shape = [1, 3, align::SIDE, align::SIDE];
        let outputs = self.session.run(ort::inputs![TensorRef::from_array_view((shape, self.input.as_slice()))?])?;
        let mut embedding = outputs[0].try_extract_tensor::<f32>()?.1.to_vec();
        Ok(gallery::normalise(&mut embedding).then_some(embedding))
    }
}

/// Checks the model's inputs and outputs.
fn check_model(session: &Session) -> anyhow::Result<()> {
    let [input] = session.inputs() else { bail!("it has {} inputs, not one", session.inputs().len()) };
    if session.outputs().len() != 1 {
        bail!("it has {} outputs, not one", session.outputs().len());
    }
    let side = align::SIDE as i64;
    match input.dtype().tensor_shape().map(|s| &s[..]) {
        Some([_, 3, h, w]) if [h, w].iter().all(|d| **d == side || **d < 0) => Ok(()),
        other => bail!("its input is {other:?}, not [1, 3, {side}, {side}]"),
    }
}

//! Embeds aligned faces with SFace (Zhong et al. 2021), as published in the OpenCV Zoo, or a model with the same input.

use std::path::Path;

use anyhow::{Context as _, bail};
use image::RgbImage;
use ort::{session::Session, value::TensorRef};

use super::{
    embeddings::similarity,
    model::{self, Model},
    runtime,
    vision::{align, self_test},
};
use crate::{recognition::ModelId, settings};

/// An embedder's session, and the input that it reuses.
pub struct Embedder {
    session: Session,
    /// Identifies its embeddings.
    model: ModelId,
    /// Planar RGB from 0 to 255: the graph normalises it.
    input: Vec<f32>,
}

impl Embedder {
    /// Loads the model and runs it once. A known model must agree with its golden embedding.
    ///
    /// # Errors
    /// The runtime or the model cannot be used, or computes wrongly; the message says what to do.
    pub fn load(settings: &settings::Recognition) -> anyhow::Result<Self> {
        let file = &settings.embedder;
        let session = runtime::session_with_stages(&settings.runtime, file, "recognition.embedder")?;
        check_model(&session)
            .with_context(|| format!("{} (recognition.embedder) does not embed faces", file.display()))?;
        let Model { id, min_agreement } = model::identify(file)?;
        let mut embedder = Self { session, model: id, input: self_test::face() };
        let embedding = embedder.run().with_context(|| format!("{} (recognition.embedder) failed", file.display()))?;
        if let Some(min) = min_agreement {
            check_agreement(self_test::agreement(&embedding), min, file, settings.sface_fp32())?;
        }
        Ok(embedder)
    }

    /// Returns the id of the model.
    pub fn model(&self) -> &ModelId {
        &self.model
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
        let mut embedding = self.run()?;
        Ok(similarity::normalise(&mut embedding).then_some(embedding))
    }

    /// Runs the model on the input.
    fn run(&mut self) -> anyhow::Result<Vec<f32>> {
        let shape = [1, 3, align::SIDE, align::SIDE];
        let outputs = self.session.run(ort::inputs![TensorRef::from_array_view((shape, self.input.as_slice()))?])?;
        Ok(outputs[0].try_extract_tensor::<f32>()?.1.to_vec())
    }
}

/// Checks the cosine similarity to the golden embedding.
fn check_agreement(agreement: Option<f32>, min: f32, file: &Path, for_any_cpu: &Path) -> anyhow::Result<()> {
    let found = match agreement {
        Some(agreement) if agreement >= min => return Ok(()),
        Some(agreement) => format!("a cosine of {agreement:.4}"),
        None => "a different length, or no direction".to_owned(),
    };
    bail!(
        "{} (recognition.embedder) computes wrongly on this machine: its embedding of the test image has {found}, and \
         at least {min} to that of SFace is right; if this CPU is the cause, set recognition.embedder to {}, and \
         if the file may be damaged, delete it and run `make setup`, or reinstall Rollcall",
        file.display(),
        for_any_cpu.display()
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedder_that_computes_wrongly_is_refused_with_a_remedy() {
        let check = |agreement| check_agreement(agreement, 0.98, Path::new("models/int8.onnx"), Path::new("fp32.onnx"));
        assert!(check(Some(0.98)).is_ok());
        for (agreement, found) in [(Some(0.9799), "0.9799"), (Some(f32::NAN), "NaN"), (None, "a different length")] {
            let error = check(agreement).unwrap_err().to_string();
            for part in ["models/int8.onnx", found, "set recognition.embedder to fp32.onnx", "make setup", "reinstall"]
            {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
    }
}

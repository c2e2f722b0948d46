//! Has workers embed the faces of photos, for what is to be stored of a person.

use bytes::Bytes;

use super::{
    error::Problem, face_box::FaceBox, recognition_body::recognition, state::State, upload::ReceivedFile,
    web_tier::Upload,
};
use crate::{
    inference::photo_quality::{PhotoWarning, warnings},
    job::{Failure, FailureKind, JobId},
    recognition::{EMBED, Face, GalleryName, ModelId, Recognition},
};

/// A photo of a person, and what a worker has found in it.
pub(super) struct Embedded {
    /// Sanitised name of the file.
    pub file: String,
    pub photo: Bytes,
    pub found: Result<Found, Problem>,
}

/// What a worker has found in a photo.
pub(super) struct Found {
    /// The faces, the largest first.
    pub faces: Vec<Face>,
    /// The model of their embeddings.
    pub model: ModelId,
}

/// The face of a photo that is meant.
pub(super) struct Chosen {
    pub embedding: Vec<f32>,
    /// The model of the embedding.
    pub model: ModelId,
    /// Why the photo may not be a good one to know the person by.
    pub warnings: Vec<PhotoWarning>,
}

impl TryFrom<Recognition> for Found {
    type Error = Failure;

    fn try_from(recognition: Recognition) -> Result<Self, Failure> {
        let model = recognition.model.ok_or_else(|| {
            let what = "the embedding has no model; does a worker run another version?";
            Failure::new(FailureKind::Internal, what)
        })?;
        Ok(Self { faces: recognition.faces, model })
    }
}

impl Found {
    /// Returns the face in the box, or the largest one.
    ///
    /// # Errors
    /// There is no such face; the text says so.
    pub fn chosen(mut self, bbox: Option<FaceBox>) -> Result<Chosen, String> {
        let at = bbox.map(|bbox| bbox.find(&self.faces)).transpose()?;
        let warnings = warnings(&self.faces, at);
        let face = self.faces.get_mut(at.unwrap_or(0)).ok_or("no face was found in it")?;
        let embedding = face.embedding.take().ok_or("the face has no embedding; does a worker run another version?")?;
        Ok(Chosen { embedding, model: self.model, warnings })
    }
}

/// Has the faces of a photo embedded by a worker.
pub(super) async fn embed(state: &State, file: ReceivedFile) -> Embedded {
    let (name, photo) = (file.name.clone(), file.bytes.clone());
    let found = async {
        file.check(state.web.settings().recognition.max_pixels).await?;
        let gallery = GalleryName::default(); // photos are embedded without one
        let upload = Upload { id: JobId::new(), kind: EMBED, gallery, file: file.name, image: file.bytes };
        let reply = state.web.submit(file.admission, upload, false).await?;
        Ok(Found::try_from(recognition(&reply.outcome?)?)?)
    };
    Embedded { file: name, photo, found: found.await }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_without_a_model_is_refused_for_enrolment() {
        let reply = |model: &str| {
            let timings = r#"{"decode_ms":1.0,"detect_ms":2.0,"embed_ms":3.0}"#;
            let rest = r#""label":"no face","faces":[],"classes":[],"width":8,"height":8,"gallery_version":0"#;
            recognition(format!("{{{rest},{model}\"timings\":{timings}}}").as_bytes()).expect("a recognition")
        };
        assert_eq!(Found::try_from(reply(r#""model":"m","#)).expect("found").model, ModelId::known("m"));
        let failure = Found::try_from(reply("")).err().expect("a failure");
        assert!(failure.kind == FailureKind::Internal && failure.message.contains("another version"), "{failure}");
    }
}

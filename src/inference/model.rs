//! Which model an embedder's file contains: the id of its embeddings, and how exactly it must compute.

use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::recognition::ModelId;

/// A file that `make setup` installs.
struct KnownModel {
    /// Its name, which files of the OpenCV Zoo that compute the same function share.
    name: &'static str,
    /// SHA-256 of the file, as in `tools/setup.py`.
    sha256: &'static str,
    id: &'static str,
    /// Lowest cosine similarity to the golden embedding at which the file computes correctly.
    min_agreement: f32,
}

const KNOWN: [KnownModel; 2] = [
    KnownModel {
        name: "face_recognition_sface_2021dec.onnx",
        sha256: "47df03cb133834fb93816ff30c4034b220aab3b10051b2156d998a3c54b15a86",
        id: "sface-2021dec",
        min_agreement: 0.999, // measured: 0.99999
    },
    KnownModel {
        name: "face_recognition_sface_2021dec_int8.onnx",
        sha256: "fabc8dec240188ef4e530ee927116b57e226cd843d5e8672d5983fbd4b21f7dd",
        id: "sface-2021dec-int8",
        min_agreement: 0.98, // measured with AVX-512 VNNI: 0.992
    },
];

/// Number of digits of a file's SHA-256 that form the id of its model, if the model is not known.
const ID_DIGITS: usize = 16;

/// The model in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    /// Identifies its embeddings.
    pub(super) id: ModelId,
    /// Lowest cosine similarity to the golden embedding at which the file computes correctly; `None` if the model is
    /// not known.
    pub(super) min_agreement: Option<f32>,
}

/// Returns the id of the embeddings that a model file produces. Does not load the model.
///
/// # Errors
/// The file cannot be read.
pub fn id(file: &Path) -> anyhow::Result<ModelId> {
    Ok(identify(file)?.id)
}

/// Identifies a model by the name of its file or else by its content: the models of `make setup` are known. Others have
/// the first digits of the file's SHA-256 as their id.
///
/// # Errors
/// The file cannot be read.
pub(super) fn identify(file: &Path) -> anyhow::Result<Model> {
    let name = file.file_name().and_then(|name| name.to_str());
    if let Some(known) = KNOWN.iter().find(|known| Some(known.name) == name) {
        return Ok(known.into());
    }
    let sha256 = sha256(file)?;
    Ok(match KNOWN.iter().find(|known| known.sha256 == sha256) {
        Some(known) => known.into(),
        None => Model { id: ModelId::known(&sha256[..ID_DIGITS]), min_agreement: None },
    })
}

impl From<&KnownModel> for Model {
    fn from(known: &KnownModel) -> Self {
        Self { id: ModelId::known(known.id), min_agreement: Some(known.min_agreement) }
    }
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let context = || format!("{} (recognition.embedder) cannot be read", file.display());
    let bytes = std::fs::read(file).with_context(context)?;
    Ok(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identified(name: &str, content: &str) -> Model {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        identify(&file).unwrap()
    }

    #[test]
    fn a_custom_model_is_identified_by_the_start_of_its_sha_256() {
        let model = identified("mine.onnx", "abc");
        assert_eq!((model.id.as_str(), model.min_agreement), ("ba7816bf8f01cfea", None));
        assert_eq!(model, identified("moved.onnx", "abc"));
        assert_ne!(model, identified("mine.onnx", "abd"));
        let error = format!("{:#}", identify(Path::new("/nowhere/mine.onnx")).unwrap_err());
        assert!(error.contains("/nowhere/mine.onnx (recognition.embedder)"), "{error}");
    }

    #[test]
    fn models_installed_by_set_up_are_identified_by_file_name() {
        for known in &KNOWN {
            let model = identified(known.name, "such as a file of the OpenCV Zoo");
            assert_eq!((model.id.as_str(), model.min_agreement), (known.id, Some(known.min_agreement)));
        }
    }
}

//! Why a change of a gallery, or a search in it, is refused.

use crate::recognition::ModelId;

/// What to do if embeddings do not fit the gallery.
const REMEDY: &str = "enrol again (rollcall enroll --replace), import embeddings of the model in use (rollcall gallery \
                      import --replace), or set recognition.embedder to the gallery's model";

/// A change was rejected, or a search is impossible; the message says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Returns the refusal with this message.
pub(super) fn refused(why: impl Into<String>) -> Refused {
    Refused(why.into())
}

/// Checks that embeddings of `model` can be compared with those of a gallery. If the gallery's model was not recorded,
/// they are assumed to be.
///
/// # Errors
/// They cannot be compared; the message names both models and says what to do.
pub(super) fn check_model(gallery: Option<&ModelId>, model: &ModelId) -> Result<(), Refused> {
    match gallery {
        Some(own) if !own.is_comparable_to(model) => Err(refused(format!(
            "the gallery contains embeddings of the model {own}, which cannot be compared with those of {model}: \
             {REMEDY}"
        ))),
        _ => Ok(()),
    }
}

/// Checks that an embedding is as long as those of the gallery.
///
/// # Errors
/// It is not, or it is empty.
pub(super) fn check_dimension(gallery: usize, given: usize) -> Result<(), Refused> {
    if gallery == given && given > 0 {
        return Ok(());
    }
    Err(refused(format!(
        "the embedding has {given} numbers, but those of the gallery have {gallery}, so they come from different \
         models: {REMEDY}"
    )))
}

//! People, and the names that they may have.

use serde::{Deserialize, Serialize};

use super::refused::{Refused, refused};
use crate::{
    inference::embeddings::similarity::dot,
    recognition::{NO_FACE, UNKNOWN},
    unicode::is_deceptive,
};

/// Longest name, in characters.
const MAX_NAME: usize = 100;
/// Most faces that are remembered as not a person's: with embeddings of 128 numbers, 16 KiB.
pub const MAX_REJECTED: usize = 32;

/// A person's name and the embeddings (unit length) of their photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// The person's name; see [`check_name`].
    pub name: String,
    /// One per photo, of unit length.
    pub embeddings: Vec<Vec<f32>>,
    /// Embeddings of unit length of faces that are not this person's, though they were given the name; the oldest first, at
    /// most [`MAX_REJECTED`].
    #[serde(skip)]
    pub rejected: Vec<Vec<f32>>,
}

impl Person {
    /// Creates a person of whom no face was rejected.
    pub fn new(name: impl Into<String>, embeddings: Vec<Vec<f32>>) -> Self {
        Self { name: name.into(), embeddings, rejected: Vec::new() }
    }

    /// Returns how many embeddings are stored.
    pub(super) fn stored(&self) -> usize {
        self.embeddings.len() + self.rejected.len()
    }

    /// Notes that a face is not this person's, in place. Whoever has too many rejected faces loses the oldest one. Returns
    /// whether anything has changed: not if the face is in a photo of the person, or was rejected before.
    pub(super) fn reject(&mut self, face: Vec<f32>, same_photo: f32) -> bool {
        if self.embeddings.iter().chain(&self.rejected).any(|known| dot(known, &face) > same_photo) {
            return false;
        }
        self.rejected.push(face);
        let excess = self.rejected.len().saturating_sub(MAX_REJECTED);
        self.rejected.drain(..excess);
        true
    }

    /// Forgets that a face was rejected, in place. Returns whether it was.
    pub(super) fn accept(&mut self, face: &[f32], same_photo: f32) -> bool {
        let before = self.rejected.len();
        self.rejected.retain(|rejected| dot(rejected, face) <= same_photo);
        self.rejected.len() < before
    }
}

/// Checks that a person may have this name.
///
/// # Errors
/// The name is empty, too long, a path, or a label that has another meaning.
pub fn check_name(name: &str) -> Result<(), Refused> {
    let problem = if name.trim().is_empty() {
        "is empty"
    } else if name.chars().count() > MAX_NAME {
        "is too long"
    } else if name.trim() != name {
        "begins or ends with white space"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.chars().any(is_deceptive) {
        "has a bidirectional control or a line separator"
    } else if name.contains('/') {
        "has a slash"
    } else if [".", ".."].contains(&name) {
        "is the name of a folder"
    } else if [UNKNOWN, NO_FACE].iter().any(|label| label.eq_ignore_ascii_case(name)) {
        "is a label with another meaning"
    } else {
        return Ok(());
    };
    Err(refused(format!(
        "the name {name:?} {problem}; a name has 1 to {MAX_NAME} characters, no control character, no slash, and is \
         not \"{UNKNOWN}\" or \"{NO_FACE}\""
    )))
}

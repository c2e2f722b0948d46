//! People, and the names that they may have.

use serde::{Deserialize, Serialize};

use super::refused::{Refused, refused};
use crate::{
    recognition::{NO_FACE, UNKNOWN},
    unicode::is_deceptive,
};

/// Longest name, in characters.
const MAX_NAME: usize = 100;

/// A person's name and the embeddings (unit length) of their photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    /// The person's name; see [`check_name`].
    pub name: String,
    /// One per photo, of unit length.
    pub embeddings: Vec<Vec<f32>>,
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

//! The people who are known: names and embeddings, and the search for the nearest.

use serde::{Deserialize, Serialize};

/// A person's name and the embeddings (unit length) of their photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub name: String,
    pub embeddings: Vec<Vec<f32>>,
}

/// One version of the gallery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gallery {
    /// Grows by one with each change; 0 is the empty gallery that nobody has written.
    pub version: u64,
    /// In name order, each name once.
    pub people: Vec<Person>,
}

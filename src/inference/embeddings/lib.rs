//! What Rollcall computes on embeddings: their similarity, and an index that finds the nearest of millions.
//!
//! This is a crate of its own so that it is optimised in debug builds, where the tests search thousands of embeddings.
#![warn(missing_docs)]

pub mod index;
pub mod similarity;

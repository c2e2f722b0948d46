//! What recognition computes on each pixel outside of its models.
//!
//! This is a crate of its own so that it is optimised in debug builds, where the tests recognise thousands of photos.
#![warn(missing_docs)]

pub mod align;
pub mod decode;
pub mod decode_error;
mod jpeg;
pub mod planes;
mod png;
pub mod scale;
pub mod self_test;
pub mod stages;
mod webp;

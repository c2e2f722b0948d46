//! What each port promises, as cases for any adapter of it.

pub mod compute;
pub mod objects;
pub mod queue;

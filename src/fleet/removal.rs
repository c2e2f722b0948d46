//! Instances to terminate.

use super::{action::Cause, instances::Key};

/// Instances to terminate for one cause.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub keys: Vec<Key>,
    pub cause: Cause,
    /// The reason in words.
    pub why: String,
}

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

impl Removal {
    /// Returns nothing if there is nothing to terminate, which is nearly always: `why` is not called then.
    pub fn of(keys: Vec<Key>, cause: Cause, why: impl FnOnce() -> String) -> Option<Self> {
        (!keys.is_empty()).then(|| Self { keys, cause, why: why() })
    }
}

//! What the value "auto" depends on, and how it is resolved.

use super::machine::Machine;

/// Where the settings take effect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Instances are processes of this machine.
    pub local: bool,
    /// This machine, or one instance.
    pub machine: Machine,
}

impl Place {
    /// Returns `local` on the embedded cloud and `aws` on AWS.
    pub fn by_cloud<T>(self, local: T, aws: T) -> Auto<T> {
        if self.local { Auto::new(local, "on the embedded cloud") } else { Auto::new(aws, "on AWS") }
    }
}

/// A resolved "auto", with the reason.
#[derive(Clone, Debug)]
pub(super) struct Auto<T> {
    pub value: T,
    /// Completes the sentence "it has this value …".
    pub reason: &'static str,
}

impl<T> Auto<T> {
    pub fn new(value: T, reason: &'static str) -> Self {
        Self { value, reason }
    }
}

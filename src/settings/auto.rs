//! What the value "auto" goes by.

use std::time::Duration;

/// The place that settings are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Auto {
    /// Instances are processes of this machine.
    pub local: bool,
    /// Cores of the machine, or of an instance.
    pub cores: usize,
}

impl Auto {
    /// Returns `here` on one machine and `aws` elsewhere.
    pub fn pick(self, here: Duration, aws: Duration) -> Duration {
        if self.local { here } else { aws }
    }
}

//! `[cloud]`: where the cluster runs.

use super::layers::{Layers, SettingsError};

/// The clouds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudKind {
    /// The embedded cloud of one machine.
    Local,
    /// SQS, S3 and EC2.
    Aws,
}

/// `[cloud]`.
#[derive(Clone, Debug)]
pub struct Cloud {
    /// Which cloud.
    pub kind: CloudKind,
    /// Name of the cluster: tag and prefix of what it makes.
    pub cluster: String,
}

impl Cloud {
    pub(super) fn from_layers(l: &Layers) -> Result<Self, SettingsError> {
        Ok(Self {
            kind: l.choice("cloud.kind", &[("local", CloudKind::Local), ("aws", CloudKind::Aws)])?,
            cluster: l.name("cloud.cluster", 32)?,
        })
    }
}
